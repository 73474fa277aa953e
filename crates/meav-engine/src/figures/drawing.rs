use std::fmt::Write as _;
use std::sync::Arc;

use resvg::{tiny_skia, usvg};

/// The typeface that comes with the program: what is drawn looks the same on every machine.
const FONT: &str = "Ubuntu";

/// Pixels of a picture for each unit of a drawing.
const SCALE: f32 = 2.0;

/// A drawing of rectangles, lines, areas and text, as SVG.
#[derive(Default)]
pub(super) struct Drawing {
    body: String,
    width: f64,
    height: f64,
}

/// How a line looks.
#[derive(Clone, Copy)]
pub(super) struct Stroke<'a> {
    pub(super) colour: &'a str,
    pub(super) width: f64,
    /// Lengths of dashes and of gaps between them.
    pub(super) dashes: Option<&'a str>,
}

/// How wide text is, about: with its letters as wide as they are on average.
pub(super) fn text_width(text: &str, size: f64) -> f64 {
    text.chars().count() as f64 * size * 0.53
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

    /// A line through points.
    pub(super) fn polyline(&mut self, points: &[[f64; 2]], stroke: &Stroke<'_>) {
        let Stroke { colour, width, dashes } = stroke;
        let points = self.points(points);
        let dashes = match dashes {
            Some(dashes) => format!(r#" stroke-dasharray="{dashes}""#),
            None => String::new(),
        };
        self.push(&format!(
            r#"<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="{width}" stroke-linejoin="round"{dashes}/>"#
        ));
    }

    /// The area within points; with an opacity of 0 nothing is seen of it, with 1 nothing of what is
    /// below.
    pub(super) fn polygon(&mut self, points: &[[f64; 2]], fill: &str, opacity: f64) {
        let points = self.points(points);
        self.push(&format!(
            r#"<polygon points="{points}" fill="{fill}" fill-opacity="{opacity}"/>"#
        ));
    }

    fn points(&mut self, points: &[[f64; 2]]) -> String {
        let point = |&[x, y]: &[f64; 2]| {
            self.reach(x, y);
            format!("{x:.2},{y:.2}")
        };
        let points: Vec<String> = points.iter().map(point).collect();
        points.join(" ")
    }

    pub(super) fn circle(&mut self, [x, y]: [f64; 2], radius: f64, fill: &str) {
        self.reach(x + radius, y + radius);
        self.push(&format!(r#"<circle cx="{x:.2}" cy="{y:.2}" r="{radius}" fill="{fill}"/>"#));
    }

    /// Text that reads upwards; its middle is at `y`, its base line at `x`.
    pub(super) fn upward_text(&mut self, x: f64, y: f64, size: f64, fill: &str, text: &str) {
        self.reach(x, y);
        let text = escaped(text);
        self.push(&format!(
            r#"<text transform="translate({x:.1} {y:.1}) rotate(-90)" font-size="{size}" text-anchor="middle" fill="{fill}">{text}</text>"#
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
