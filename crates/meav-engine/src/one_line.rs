use std::iter;

/// Characters of a name that a file gives; people give shorter ones.
pub(crate) const NAME_CHARS: usize = 60;

/// Characters of any other text that a file gives.
pub(crate) const VALUE_CHARS: usize = 500;

/// Text from a file that may be hostile, as it is shown: on one line and not longer than
/// `max_chars`, with … where more was left out.
pub(crate) fn one_line(text: &str, max_chars: usize) -> String {
    let words = text.split(|c: char| c.is_whitespace() || c.is_control());
    let words = words.filter(|word| !word.is_empty());
    let mut chars = words.flat_map(|word| iter::once(' ').chain(word.chars())).skip(1);
    let mut line: String = chars.by_ref().take(max_chars).collect();
    if chars.next().is_some() {
        line.pop();
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_control_characters_become_spaces_and_the_rest_is_left_out() {
        assert_eq!(one_line("\tlegal  \u{1b}[31m\r\nadvice\n", 60), "legal [31m advice");
        assert_eq!(one_line("vier", 4), "vier");
        assert_eq!(one_line("fünfe", 4), "fün…");
        assert_eq!(one_line(" \n", 4), "");
    }
}
