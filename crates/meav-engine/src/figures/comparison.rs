use meav_protocol::{Comparison, ComparisonCell, ComparisonPair, ModuleKind};

use super::csv::csv_row;
use super::drawing::{Anchor, Drawing};
use super::palette::{FAINT, INK, heat};

const MARGIN: f64 = 24.0;
const CELL_WIDTH: f64 = 52.0;
const CELL_HEIGHT: f64 = 15.0;
const LABEL_WIDTH: f64 = 84.0;
const TEXT: f64 = 10.0;
const TITLE: f64 = 13.0;

/// A row for each part of the model and each two vectors, the whole first.
pub(crate) fn comparison_csv(comparison: &Comparison) -> String {
    let mut text = csv_row([
        "layer",
        "module",
        "vector_a",
        "vector_b",
        "norm_a",
        "norm_b",
        "cosine",
        "sign_conflict",
    ]);
    let names = comparison.names();
    for cell in std::iter::once(&comparison.overall).chain(&comparison.cells) {
        for pair in &cell.pairs {
            let number = |value: Option<f64>| value.map(|it| it.to_string()).unwrap_or_default();
            text.push_str(&csv_row([
                cell.layer.map_or_else(String::new, |layer| layer.to_string()),
                cell.module.map_or("all".to_owned(), |module| module.to_string()),
                names[pair.a].clone(),
                names[pair.b].clone(),
                cell.norms[pair.a].to_string(),
                cell.norms[pair.b].to_string(),
                number(pair.cosine),
                number(pair.sign_conflict),
            ]));
        }
    }
    text
}

/// For each two vectors, cosine and sign conflict over layers and module kinds, side by side.
pub(crate) fn comparison_svg(comparison: &Comparison) -> String {
    let mut drawing = Drawing::default();
    let names = comparison.names();
    let title = format!("Interference of {}", names.join(", "));
    drawing.text(MARGIN, MARGIN + TITLE, TITLE + 3.0, Anchor::Start, INK, &title);
    let mut top = MARGIN + 40.0;
    for (index, overall) in comparison.overall.pairs.iter().enumerate() {
        let measures: [Measure; 2] = [Measure::Cosine, Measure::SignConflict];
        let mut left = MARGIN;
        let mut bottom = top;
        for measure in measures {
            let whole = measure.of(overall).map_or("none".to_owned(), |it| format!("{it:+.3}"));
            let heading = format!(
                "{} and {}: {} {whole}",
                names[overall.a],
                names[overall.b],
                measure.name()
            );
            drawing.text(left, top, TITLE, Anchor::Start, INK, &heading);
            let (right, lower) =
                heat_map(&mut drawing, comparison, index, measure, left, top + 12.0);
            left = right.max(left + 8.0 * heading.chars().count() as f64 * 0.8) + 32.0;
            bottom = lower;
        }
        top = bottom + 36.0;
    }
    drawing.finish(MARGIN)
}

/// What is told of a pair.
#[derive(Clone, Copy)]
enum Measure {
    Cosine,
    SignConflict,
}

impl Measure {
    fn name(self) -> &'static str {
        match self {
            Self::Cosine => "cosine",
            Self::SignConflict => "share of elements with opposite signs",
        }
    }

    fn of(self, pair: &ComparisonPair) -> Option<f64> {
        match self {
            Self::Cosine => pair.cosine,
            Self::SignConflict => pair.sign_conflict,
        }
    }

    /// −1 to 1: of unrelated vectors it is 0 for a cosine, and one half of the signs differ.
    fn signed(self, value: f64) -> f64 {
        match self {
            Self::Cosine => value,
            Self::SignConflict => 1.0 - 2.0 * value,
        }
    }
}

/// Draws one map and gives its right and lower edges.
fn heat_map(
    drawing: &mut Drawing,
    comparison: &Comparison,
    pair: usize,
    measure: Measure,
    left: f64,
    top: f64,
) -> (f64, f64) {
    let modules: Vec<ModuleKind> = ModuleKind::ALL
        .into_iter()
        .filter(|module| comparison.cells.iter().any(|cell| cell.module == Some(*module)))
        .collect();
    let mut rows: Vec<Option<usize>> = comparison.cells.iter().map(|cell| cell.layer).collect();
    rows.sort_by_key(|layer| layer.map_or(usize::MAX, |layer| layer));
    rows.dedup();
    for (column, module) in modules.iter().enumerate() {
        let x = left + LABEL_WIDTH + (column as f64 + 0.5) * CELL_WIDTH;
        drawing.text(x, top + TEXT, TEXT, Anchor::Middle, FAINT, &module.to_string());
    }
    let top = top + TEXT + 6.0;
    for (row, layer) in rows.iter().enumerate() {
        let y = top + row as f64 * CELL_HEIGHT;
        let label = layer.map_or("outside".to_owned(), |layer| format!("layer {layer}"));
        let base_line = y + CELL_HEIGHT - 4.0;
        drawing.text(left + LABEL_WIDTH - 8.0, base_line, TEXT, Anchor::End, FAINT, &label);
        for (column, module) in modules.iter().enumerate() {
            let is_it =
                |cell: &&ComparisonCell| cell.layer == *layer && cell.module == Some(*module);
            let cell = comparison.cells.iter().find(is_it);
            let Some(value) = cell.and_then(|cell| measure.of(&cell.pairs[pair])) else { continue };
            let x = left + LABEL_WIDTH + column as f64 * CELL_WIDTH;
            let (fill, ink) = heat(measure.signed(value));
            drawing.rect(x, y, CELL_WIDTH - 1.0, CELL_HEIGHT - 1.0, &fill);
            let middle = x + CELL_WIDTH / 2.0;
            drawing.text(
                middle,
                base_line,
                TEXT - 1.0,
                Anchor::Middle,
                ink,
                &format!("{value:.2}"),
            );
        }
    }
    let right = left + LABEL_WIDTH + modules.len() as f64 * CELL_WIDTH;
    (right, top + rows.len() as f64 * CELL_HEIGHT)
}

#[cfg(test)]
mod tests {
    use meav_protocol::ComparedVector;

    use super::*;
    use crate::figures::png;

    fn comparison() -> Comparison {
        let vector = |domain: &str| ComparedVector { domain: domain.to_owned(), file: "v".into() };
        let cell = |layer, module, cosine, sign_conflict| ComparisonCell {
            layer,
            module,
            norms: vec![1.5, 0.25],
            pairs: vec![ComparisonPair { a: 0, b: 1, cosine, sign_conflict }],
        };
        Comparison {
            vectors: vec![vector("medical"), vector("=legal & <safe>")],
            overall: cell(None, None, Some(-0.125), Some(0.5625)),
            cells: vec![
                cell(Some(0), Some(ModuleKind::Attention), Some(0.9), Some(0.25)),
                cell(Some(1), Some(ModuleKind::Mlp), Some(-1.0), Some(1.0)),
                cell(None, Some(ModuleKind::Embeddings), None, None),
            ],
        }
    }

    #[test]
    fn table_has_every_cell_and_leaves_open_what_is_unknown() {
        let lines: Vec<_> = comparison_csv(&comparison()).lines().map(str::to_owned).collect();
        assert_eq!(lines.len(), 5);
        assert_eq!(lines[1], ",all,medical,\"'=legal & <safe>\",1.5,0.25,-0.125,0.5625");
        assert_eq!(lines[4], ",embeddings,medical,\"'=legal & <safe>\",1.5,0.25,,");
        let mut alike = comparison();
        alike.vectors[1] = ComparedVector { domain: "medical".to_owned(), file: "b/w.x".into() };
        assert!(comparison_csv(&alike).contains(",medical (v),medical (w.x),"));
    }

    #[test]
    fn drawing_is_valid_names_every_part_and_becomes_a_picture() {
        let svg = comparison_svg(&comparison());
        for text in ["layer 0", "layer 1", "attention", "MLP", "0.90", "-1.00", "=legal &amp; &lt;"]
        {
            assert!(svg.contains(text), "{text}");
        }
        let png = png(&svg).unwrap();
        assert_eq!(&png[1..4], b"PNG");
        // With the text it compresses badly; an empty sheet would be a tenth of that.
        assert!(png.len() > 10_000, "{}", png.len());
    }
}
