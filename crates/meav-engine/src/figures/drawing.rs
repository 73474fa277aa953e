use std::fmt::Write as _;
use std::sync::Arc;

use resvg::{tiny_skia, usvg};

/// The typeface that comes with the program: what is drawn looks the same on every machine.
const FONT: &str = "Ubuntu";

/// Pixels of a picture for each unit of a drawing.
const SCALE: f32 = 2.0;

/// A drawing of rectangles and text, as SVG.
#[derive(Default)]
pub(super) struct Drawing {
    body: String,
    width: f64,
    height: f64,
}

/// Which end of a text is where it is put.
#[derive(Clone, Copy)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

impl Drawing {
    /// The drawing grows to hold everything.
    pub(super) fn reach(&mut self, x: f64, y: f64) {
        self.width = self.width.max(x);
        self.height = self.height.max(y);
    }

    pub(super) fn rect(&mut self, x: f64, y: f64, width: f64, height: f64, fill: &str) {
        self.reach(x + width, y + height);
        self.push(&format!(
            r#"<rect x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}" fill="{fill}"/>"#
        ));
    }

    /// `y` is the base line.
    pub(super) fn text(
        &mut self,
        x: f64,
        y: f64,
        size: f64,
        anchor: Anchor,
        fill: &str,
        text: &str,
    ) {
        self.reach(x, y + size);
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let text = escaped(text);
        self.push(&format!(
            r#"<text x="{x:.1}" y="{y:.1}" font-size="{size}" text-anchor="{anchor}" fill="{fill}">{text}</text>"#
        ));
    }

    fn push(&mut self, element: &str) {
        self.body.push_str(element);
        self.body.push('\n');
    }

    /// The whole of it, on white, with a margin.
    pub(super) fn finish(self, margin: f64) -> String {
        let (width, height) = (self.width + margin, self.height + margin);
        let mut svg = String::new();
        // Writing to a string cannot fail.
        let _infallible = write!(
            svg,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
             viewBox=\"0 0 {width:.0} {height:.0}\" font-family=\"{FONT}, sans-serif\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n{}</svg>\n",
            self.body
        );
        svg
    }
}

fn escaped(text: &str) -> String {
    let visible = |c: &char| !c.is_control();
    let text: String = text.chars().filter(visible).collect();
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// A drawing as a picture, twice its nominal size.
///
/// # Errors
///
/// What the library says of a drawing that it can't read.
pub(crate) fn png(svg: &str) -> Result<Vec<u8>, usvg::Error> {
    let mut fonts = usvg::fontdb::Database::new();
    fonts.load_font_data(epaint_default_fonts::UBUNTU_LIGHT.to_vec());
    fonts.set_sans_serif_family(FONT);
    let options = usvg::Options { fontdb: Arc::new(fonts), ..usvg::Options::default() };
    let tree = usvg::Tree::from_str(svg, &options)?;
    let size = tree.size().to_int_size().scale_by(SCALE).ok_or(usvg::Error::InvalidSize)?;
    let mut pixmap =
        tiny_skia::Pixmap::new(size.width(), size.height()).ok_or(usvg::Error::InvalidSize)?;
    let transform = tiny_skia::Transform::from_scale(SCALE, SCALE);
    resvg::render(&tree, transform, &mut pixmap.as_mut());
    pixmap.encode_png().map_err(|_too_large| usvg::Error::InvalidSize)
}
