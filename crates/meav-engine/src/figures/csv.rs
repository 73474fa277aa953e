/// One line of RFC 4180, harmless to spreadsheets.
pub(crate) fn csv_row<T: AsRef<str>>(fields: impl IntoIterator<Item = T>) -> String {
    let fields: Vec<String> = fields.into_iter().map(|field| csv_field(field.as_ref())).collect();
    fields.join(",") + "\r\n"
}

/// Quoted where it has to be; what a spreadsheet would run as a formula begins with an apostrophe.
///
/// Titles and names of files come from anywhere. A number is no formula, whatever its sign.
fn csv_field(text: &str) -> String {
    let formula = ['=', '+', '-', '@', '＝', '＋', '－', '＠'];
    let looks_so = text.starts_with(['\t', '\r', '\n']) || text.trim_start().starts_with(formula);
    let is_formula = looks_so && text.parse::<f64>().is_err();
    let apostrophe = if is_formula { "'" } else { "" };
    if is_formula || text.contains([',', '"', '\r', '\n']) {
        return format!("\"{apostrophe}{}\"", text.replace('"', "\"\""));
    }
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_spreadsheet_would_run_begins_with_an_apostrophe_and_numbers_do_not() {
        let row = csv_row(["plain", "-0.25", "-1+cmd", "=A1", "a \"b\", c", " @x"]);
        assert_eq!(row, "plain,-0.25,\"'-1+cmd\",\"'=A1\",\"a \"\"b\"\", c\",\"' @x\"\r\n");
    }
}
