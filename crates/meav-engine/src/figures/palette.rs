/// Lines and letters.
pub(super) const INK: &str = "#1a1a1a";

/// What says less.
pub(super) const FAINT: &str = "#666666";

/// Lines behind a plot.
pub(super) const GRID: &str = "#e2e2e2";

/// Colours that colour-blind readers tell apart.
///
/// Source: Okabe and Ito, 2008, without the yellow, which is hard to see on white.
pub(super) const LEVELS: [&str; 7] =
    ["#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#000000"];

/// From orange (−1) over white to blue (1), which colour-blind readers tell apart, and what can be
/// read on it.
pub(super) fn heat(value: f64) -> (String, &'static str) {
    const ORANGE: [f64; 3] = [179.0, 88.0, 6.0];
    const WHITE: [f64; 3] = [247.0, 247.0, 247.0];
    const BLUE: [f64; 3] = [33.0, 102.0, 172.0];
    let value = value.clamp(-1.0, 1.0);
    let end = if value < 0.0 { ORANGE } else { BLUE };
    let channel = |i: usize| (WHITE[i] + (end[i] - WHITE[i]) * value.abs()).round() as u8;
    let fill = format!("#{:02x}{:02x}{:02x}", channel(0), channel(1), channel(2));
    (fill, if value.abs() > 0.55 { "#ffffff" } else { INK })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opposite_ends_have_opposite_colours() {
        assert_eq!(heat(0.0).0, "#f7f7f7");
        assert_eq!(heat(1.0).0, "#2166ac");
        assert_eq!(heat(-2.0).0, "#b35806");
    }
}
