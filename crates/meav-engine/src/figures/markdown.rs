use crate::one_line::{VALUE_CHARS, one_line};

/// A row of a table; what the cells hold is shown as it is.
pub(crate) fn markdown_row<T: AsRef<str>>(cells: impl IntoIterator<Item = T>) -> String {
    let cells: Vec<String> = cells.into_iter().map(|cell| markdown_text(cell.as_ref())).collect();
    format!("| {} |\n", cells.join(" | "))
}

/// A heading and an empty line below it; 1 is the largest.
pub(crate) fn markdown_heading(depth: usize, text: &str) -> String {
    format!("{} {}\n\n", "#".repeat(depth), markdown_text(text))
}

/// The line below the first row of a table: one column of names, numbers behind it.
pub(crate) fn markdown_rule(columns: usize) -> String {
    format!("|---|{}\n", "---:|".repeat(columns.saturating_sub(1)))
}

/// Text of any origin on one line, with nothing in it that Markdown or HTML would act on.
pub(crate) fn markdown_text(text: &str) -> String {
    let line = one_line(text, VALUE_CHARS);
    let mut safe = String::with_capacity(line.len());
    for c in line.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '\\' | '|' | '*' | '_' | '`' | '[' | ']' | '~' | '$' => safe.extend(['\\', c]),
            c => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_stay_in_their_column_and_do_nothing() {
        let row = markdown_row(["a|b\nc", "<img src=x> & [x](y)", "`*_"]);
        assert_eq!(row, "| a\\|b c | &lt;img src=x&gt; &amp; \\[x\\](y) | \\`\\*\\_ |\n");
        assert_eq!(markdown_rule(3), "|---|---:|---:|\n");
    }
}
