use meav_protocol::{CrossColumn, CrossDomain, Movement};

use super::csv::csv_row;
use super::drawing::{Anchor, Drawing, text_width};
use super::markdown::{markdown_row, markdown_rule};
use super::palette::{FAINT, INK, heat};
use crate::one_line::{NAME_CHARS, one_line};

const MARGIN: f64 = 24.0;
const TITLE: f64 = 16.0;
const TEXT: f64 = 10.5;
const SMALL: f64 = 8.5;
const CELL_WIDTH: f64 = 84.0;
const CELL_HEIGHT: f64 = 38.0;
/// Between two data sets.
const GROUP_GAP: f64 = 12.0;

/// A row for each vector, data set, measure and level.
pub(crate) fn cross_domain_csv(matrix: &CrossDomain) -> String {
    let header = ["vector", "data", "measure", "level", "change_per_unit", "low", "high"];
    let mut text = csv_row(header);
    for (vector, cells) in matrix.vectors.iter().zip(&matrix.cells) {
        for (CrossColumn { data, measure, level }, cell) in matrix.columns.iter().zip(cells) {
            let number = |value: fn(&Movement) -> f64| {
                cell.as_ref().map(|it| value(it).to_string()).unwrap_or_default()
            };
            text.push_str(&csv_row([
                vector.clone(),
                data.clone(),
                measure.to_string(),
                level.clone(),
                number(|it| it.per_unit),
                number(|it| it.interval[0]),
                number(|it| it.interval[1]),
            ]));
        }
    }
    text
}

/// A table with a row for each vector.
pub(crate) fn cross_domain_markdown(matrix: &CrossDomain) -> String {
    let mut text =
        "Change of preference accuracy for one unit of λ, with 95 % intervals.\n\n".to_owned();
    let column = |it: &CrossColumn| format!("{} {}: {}", it.data, it.measure, it.level);
    let header = std::iter::once("vector".to_owned()).chain(matrix.columns.iter().map(column));
    text.push_str(&markdown_row(header));
    text.push_str(&markdown_rule(matrix.columns.len() + 1));
    for (vector, cells) in matrix.vectors.iter().zip(&matrix.cells) {
        let cell = |cell: &Option<Movement>| match cell {
            Some(it) => format!("{} ({})", signed(it.per_unit), interval(it)),
            None => "–".to_owned(),
        };
        text.push_str(&markdown_row(std::iter::once(vector.clone()).chain(cells.iter().map(cell))));
    }
    text
}

/// A heat map: a row for each vector, columns grouped by data set.
pub(crate) fn cross_domain_svg(matrix: &CrossDomain) -> String {
    let mut drawing = Drawing::default();
    let title = "How far one unit of each vector moves each level";
    drawing.text(MARGIN, MARGIN + TITLE, TITLE, Anchor::Start, INK, title);
    drawing.reach(MARGIN + text_width(title, TITLE), MARGIN);
    let largest = largest(matrix);
    let legend = format!(
        "change of preference accuracy per unit of λ and its 95 % interval, from −{largest:.2} \
         (orange) to +{largest:.2} (blue)"
    );
    let top = MARGIN + TITLE + 20.0;
    drawing.text(MARGIN, top, TEXT, Anchor::Start, FAINT, &legend);
    drawing.reach(MARGIN + text_width(&legend, TEXT), top);
    let names: Vec<String> = matrix.vectors.iter().map(|it| one_line(it, NAME_CHARS)).collect();
    let widest = names.iter().map(|it| text_width(it, TEXT)).fold(40.0, f64::max);
    let lefts = column_lefts(matrix, MARGIN + widest + 12.0);
    let top = draw_heads(&mut drawing, matrix, &lefts, top + 30.0);
    for (row, (name, cells)) in names.iter().zip(&matrix.cells).enumerate() {
        let y = top + row as f64 * CELL_HEIGHT;
        let base_line = y + CELL_HEIGHT / 2.0 + TEXT * 0.35;
        drawing.text(MARGIN + widest, base_line, TEXT, Anchor::End, INK, name);
        for (left, cell) in lefts.iter().zip(cells) {
            draw_cell(&mut drawing, cell.as_ref(), *left, y, largest);
        }
    }
    drawing.finish(MARGIN)
}

/// Where each column begins.
fn column_lefts(matrix: &CrossDomain, first: f64) -> Vec<f64> {
    let mut left = first;
    let mut lefts = Vec::with_capacity(matrix.columns.len());
    for (index, column) in matrix.columns.iter().enumerate() {
        let before = index.checked_sub(1).map(|before| &matrix.columns[before]);
        if before.is_some_and(|before| !is_same_group(before, column)) {
            left += GROUP_GAP;
        }
        lefts.push(left);
        left += CELL_WIDTH;
    }
    lefts
}

fn is_same_group(a: &CrossColumn, b: &CrossColumn) -> bool {
    a.data == b.data && a.measure == b.measure
}

/// Draws the names of data sets, measures and levels, and gives the lower edge.
fn draw_heads(drawing: &mut Drawing, matrix: &CrossDomain, lefts: &[f64], top: f64) -> f64 {
    let mut index = 0;
    for group in matrix.columns.chunk_by(is_same_group) {
        let first = &group[0];
        let width = group.len() as f64 * CELL_WIDTH;
        let room = (width / (TEXT * 0.53)) as usize;
        let left = lefts[index];
        let data = one_line(&first.data, room.clamp(8, NAME_CHARS));
        drawing.text(left, top, TEXT, Anchor::Start, INK, &data);
        drawing.text(left, top + 14.0, SMALL, Anchor::Start, FAINT, &first.measure.to_string());
        for column in group {
            let middle = lefts[index] + CELL_WIDTH / 2.0;
            let level = one_line(&column.level, 14);
            drawing.text(middle, top + 32.0, TEXT, Anchor::Middle, FAINT, &level);
            index += 1;
        }
    }
    top + 40.0
}

fn draw_cell(drawing: &mut Drawing, cell: Option<&Movement>, left: f64, top: f64, largest: f64) {
    let middle = left + CELL_WIDTH / 2.0;
    let Some(movement) = cell.filter(|it| it.per_unit.is_finite()) else {
        drawing.text(middle, top + CELL_HEIGHT / 2.0, TEXT, Anchor::Middle, FAINT, "–");
        return;
    };
    let (fill, ink) = heat(movement.per_unit / largest);
    drawing.rect(left, top, CELL_WIDTH - 1.5, CELL_HEIGHT - 1.5, &fill);
    let value = signed(movement.per_unit);
    drawing.text(middle, top + 17.0, TEXT + 1.0, Anchor::Middle, ink, &value);
    drawing.text(middle, top + 30.0, SMALL, Anchor::Middle, ink, &interval(movement));
}

/// The change that has the deepest colour.
fn largest(matrix: &CrossDomain) -> f64 {
    let changes = matrix.cells.iter().flatten().flatten().map(|it| it.per_unit.abs());
    changes.filter(|it| it.is_finite()).fold(0.05, f64::max)
}

/// The typographic minus keeps signs apart from ranges.
fn signed(value: f64) -> String {
    format!("{value:+.2}").replace('-', "−")
}

fn interval(movement: &Movement) -> String {
    let [low, high] = movement.interval;
    format!("{} to {}", signed(low), signed(high))
}

#[cfg(test)]
mod tests {
    use meav_protocol::MeasureName;

    use super::*;
    use crate::figures::png;

    fn matrix() -> CrossDomain {
        let column = |data: &str, level: &str| CrossColumn {
            data: data.to_owned(),
            measure: MeasureName::Levels,
            level: level.to_owned(),
        };
        let moved = |per_unit: f64| {
            Some(Movement { per_unit, interval: [per_unit - 0.25, per_unit + 0.25] })
        };
        CrossDomain {
            vectors: vec!["medical".to_owned(), "=legal & |co|".to_owned()],
            columns: vec![
                column("medical.test.jsonl", "expert"),
                column("medical.test.jsonl", "avoidance"),
                column("<legal>.jsonl", "expert"),
            ],
            cells: vec![
                vec![moved(0.5), moved(-0.5), None],
                vec![moved(0.0), moved(0.125), moved(0.25)],
            ],
        }
    }

    #[test]
    fn table_has_every_cell_and_leaves_open_what_is_unknown() {
        let csv = cross_domain_csv(&matrix());
        let lines: Vec<&str> = csv.lines().collect();
        assert_eq!(lines.len(), 7);
        assert_eq!(lines[2], "medical,medical.test.jsonl,levels,avoidance,-0.5,-0.75,-0.25");
        assert_eq!(lines[3], "medical,<legal>.jsonl,levels,expert,,,");
        assert!(lines[4].starts_with("\"'=legal & |co|\","), "{}", lines[4]);
    }

    #[test]
    fn markdown_keeps_columns_apart() {
        let markdown = cross_domain_markdown(&matrix());
        let rows: Vec<&str> = markdown.lines().skip(2).collect();
        assert_eq!(rows.len(), 4);
        assert_eq!(rows[2], "| medical | +0.50 (+0.25 to +0.75) | −0.50 (−0.75 to −0.25) | – |");
        assert!(rows[3].starts_with("| =legal &amp; \\|co\\| |"), "{}", rows[3]);
        assert!(rows[0].contains("&lt;legal&gt;.jsonl levels: expert"), "{}", rows[0]);
    }

    #[test]
    fn drawing_shows_changes_in_the_depth_of_the_largest() {
        let svg = cross_domain_svg(&matrix());
        for text in ["=legal &amp; |co|", "&lt;legal&gt;.jsonl", "+0.50", "+0.25 to +0.75", "–<"]
        {
            assert!(svg.contains(text), "{text}");
        }
        for fill in [heat(1.0).0, heat(-1.0).0, heat(0.5).0, heat(0.0).0] {
            assert!(svg.contains(&fill), "{fill}");
        }
        let picture = png(&svg).unwrap();
        assert!(picture.len() > 10_000, "{}", picture.len());
        let empty = CrossDomain { vectors: Vec::new(), columns: Vec::new(), cells: Vec::new() };
        assert!(png(&cross_domain_svg(&empty)).is_ok());
    }
}
