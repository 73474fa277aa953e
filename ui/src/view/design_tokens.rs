//! Every colour, size and distance of the window.
//!
//! Distances are multiples of [`GRID`]. Text has two sizes and a monospace. Text on its ground has
//! the contrast that WCAG 2.2 asks for at level AA (4.5:1), marks and bars that of graphics (3:1);
//! a test holds them to it.

#![expect(clippy::disallowed_methods, reason = "colours are declared here and nowhere else")]

use egui::style::{Selection, WidgetVisuals, Widgets};
use egui::{Color32, Context, CornerRadius, FontFamily, FontId, Stroke, Style, TextStyle, Visuals};

/// Points between the lines that things are aligned to.
pub(crate) const GRID: f32 = 4.0;

/// Points, of text that is read.
const BODY: f32 = 14.0;

/// Points, of text that is looked at.
const SMALL: f32 = 12.0;

/// Points, of fingerprints, paths and code.
const MONOSPACE: f32 = 13.0;

/// Points, of the headings in answers and of empty screens.
const HEADING: f32 = 18.0;

/// Points, of symbols on buttons.
pub(crate) const ICON: f32 = 16.0;

/// Points, the height of a row with a control in it.
pub(crate) const ROW: f32 = 6.0 * GRID;

const CORNER: CornerRadius = CornerRadius::same(4);

/// The colours of one theme.
pub(crate) struct Tokens {
    /// Behind the conversation.
    pub(crate) ground: Color32,
    /// Behind panels and bars.
    pub(crate) panel: Color32,
    /// Buttons, bubbles and chips.
    pub(crate) raised: Color32,
    /// Buttons under the pointer.
    pub(crate) hovered: Color32,
    /// Behind typed text.
    pub(crate) field: Color32,
    /// Between things.
    pub(crate) line: Color32,
    /// The tracks of knobs and bars.
    pub(crate) track: Color32,
    /// What is read.
    pub(crate) text: Color32,
    /// What stands out.
    pub(crate) strong: Color32,
    /// What is read last.
    pub(crate) weak: Color32,
    /// What is chosen, links, the button to press.
    pub(crate) accent: Color32,
    /// Text on the accent.
    pub(crate) on_accent: Color32,
    /// Behind chosen text and rows.
    pub(crate) selection: Color32,
    /// What went wrong.
    pub(crate) error: Color32,
    /// What to look out for.
    pub(crate) warning: Color32,
    /// What is as it should be.
    pub(crate) good: Color32,
    /// Vectors that agree, in maps. Told from `oppose` by colour-blind people too.
    pub(crate) agree: Color32,
    /// Vectors that have nothing to do with each other, in maps.
    pub(crate) even: Color32,
    /// Vectors that are in each other's way, in maps.
    pub(crate) oppose: Color32,
    /// One for each domain, told apart by colour-blind people too (after Okabe and Ito, 2008).
    domains: [Color32; 7],
    /// One for each of [`KNOWN_LEVELS`], told apart by colour-blind people too (the first three
    /// after Tol's high-contrast scheme, 2021); a level has a mark of its own as well.
    levels: [Color32; 9],
}

const fn rgb(hex: u32) -> Color32 {
    Color32::from_rgb((hex >> 16) as u8, (hex >> 8) as u8, hex as u8)
}

const DARK: Tokens = Tokens {
    ground: rgb(0x1a_1c_20),
    panel: rgb(0x14_16_19),
    raised: rgb(0x2a_2e_34),
    hovered: rgb(0x3a_3f_47),
    field: rgb(0x0e_10_12),
    line: rgb(0x33_38_3f),
    track: rgb(0x6b_74_80),
    text: rgb(0xd8_db_e0),
    strong: rgb(0xff_ff_ff),
    weak: rgb(0xa3_ab_b5),
    accent: rgb(0x6c_b2_f5),
    on_accent: rgb(0x08_16_24),
    selection: rgb(0x1d_48_72),
    error: rgb(0xff_8f_85),
    warning: rgb(0xff_bd_5c),
    good: rgb(0x86_d6_92),
    agree: rgb(0x56_b4_e9),
    even: rgb(0x2a_2e_34),
    oppose: rgb(0xf0_8a_24),
    domains: [
        rgb(0x2f_bf_98),
        rgb(0xe6_9f_00),
        rgb(0x56_b4_e9),
        rgb(0xe8_87_bd),
        rgb(0xff_7a_33),
        rgb(0xf0_e4_42),
        rgb(0x7d_9c_f0),
    ],
    levels: [
        rgb(0x6c_9e_e8),
        rgb(0xe0_b0_40),
        rgb(0xe0_7a_88),
        rgb(0x35_b8_a6),
        rgb(0xda_80_33),
        rgb(0x8f_c7_f0),
        rgb(0xb5_8a_d6),
        rgb(0xa8_b0_4a),
        rgb(0xc4_a3_8a),
    ],
};

const LIGHT: Tokens = Tokens {
    ground: rgb(0xff_ff_ff),
    panel: rgb(0xf3_f5_f8),
    raised: rgb(0xe4_e8_ee),
    hovered: rgb(0xd3_d9_e2),
    field: rgb(0xff_ff_ff),
    line: rgb(0xcd_d3_db),
    track: rgb(0x85_8d_99),
    text: rgb(0x1d_23_29),
    strong: rgb(0x00_00_00),
    weak: rgb(0x50_59_66),
    accent: rgb(0x12_60_aa),
    on_accent: rgb(0xff_ff_ff),
    selection: rgb(0xbf_dc_f7),
    error: rgb(0xb0_1f_18),
    warning: rgb(0x86_4e_00),
    good: rgb(0x19_69_31),
    agree: rgb(0x1f_7f_b8),
    even: rgb(0xee_f1_f5),
    oppose: rgb(0xc2_5a_00),
    domains: [
        rgb(0x00_7d_5d),
        rgb(0xa8_6c_00),
        rgb(0x1f_7f_b8),
        rgb(0xa8_4a_80),
        rgb(0xc2_4d_00),
        rgb(0x80_73_00),
        rgb(0x3d_57_b5),
    ],
    levels: [
        rgb(0x1f_57_a8),
        rgb(0x9a_72_00),
        rgb(0xb0_3a_50),
        rgb(0x00_80_6f),
        rgb(0xb8_56_00),
        rgb(0x23_82_b5),
        rgb(0x7c_4a_a3),
        rgb(0x66_70_0f),
        rgb(0x8a_62_48),
    ],
};

/// The domains whose colours never change.
const KNOWN_DOMAINS: [&str; 4] = ["medical", "financial", "legal", "safety"];

/// The levels whose colours and marks never change.
const KNOWN_LEVELS: [&str; 9] = [
    "expert",
    "generic",
    "avoidance",
    "safe",
    "unsafe",
    "helpful",
    "unhelpful",
    "chosen",
    "rejected",
];

/// A level's place among the colours and marks of levels.
pub(crate) fn level_place(name: &str) -> usize {
    let known = KNOWN_LEVELS.iter().position(|known| name.eq_ignore_ascii_case(known));
    let sum = || name.bytes().map(usize::from).sum::<usize>();
    known.unwrap_or_else(|| sum() % KNOWN_LEVELS.len())
}

impl Tokens {
    /// Those of the theme that `visuals` belong to.
    pub(crate) fn of(visuals: &Visuals) -> &'static Self {
        if visuals.dark_mode { &DARK } else { &LIGHT }
    }

    /// A domain's colour, the same everywhere and at every start.
    pub(crate) fn domain(&self, name: &str) -> Color32 {
        let known = KNOWN_DOMAINS.iter().position(|known| name.eq_ignore_ascii_case(known));
        let index = known.unwrap_or_else(|| {
            let sum: usize = name.bytes().map(usize::from).sum();
            KNOWN_DOMAINS.len() + sum % (self.domains.len() - KNOWN_DOMAINS.len())
        });
        self.domains[index]
    }

    /// A level's colour, the same everywhere and at every start.
    pub(crate) fn level(&self, name: &str) -> Color32 {
        self.levels[level_place(name)]
    }

    /// A level's colour as the ground of words.
    pub(crate) fn level_ground(&self, name: &str) -> Color32 {
        self.panel.lerp_to_gamma(self.level(name), 0.45)
    }

    /// The colour of a place between opposition at −1 and agreement at 1.
    pub(crate) fn between(&self, share: f64) -> Color32 {
        let end = if share < 0.0 { self.oppose } else { self.agree };
        self.even.lerp_to_gamma(end, share.abs().min(1.0) as f32)
    }

    fn visuals(&self, mut visuals: Visuals) -> Visuals {
        visuals.override_text_color = None;
        visuals.weak_text_color = Some(self.weak);
        visuals.widgets = self.widgets();
        visuals.selection =
            Selection { bg_fill: self.selection, stroke: Stroke::new(1.0, self.strong) };
        visuals.hyperlink_color = self.accent;
        visuals.faint_bg_color = self.raised;
        visuals.extreme_bg_color = self.field;
        visuals.code_bg_color = self.raised;
        visuals.warn_fg_color = self.warning;
        visuals.error_fg_color = self.error;
        visuals.window_fill = self.panel;
        visuals.window_stroke = Stroke::new(1.0, self.line);
        visuals.panel_fill = self.panel;
        visuals.disabled_alpha = 0.6;
        visuals
    }

    fn widgets(&self) -> Widgets {
        let state = |fill: Color32, edge: Color32, text: Color32| WidgetVisuals {
            bg_fill: fill,
            weak_bg_fill: fill,
            bg_stroke: Stroke::new(1.0, edge),
            corner_radius: CORNER,
            fg_stroke: Stroke::new(1.0, text),
            expansion: 0.0,
        };
        Widgets {
            noninteractive: state(self.panel, self.line, self.text),
            inactive: state(self.raised, self.line, self.text),
            hovered: state(self.hovered, self.track, self.strong),
            active: state(self.hovered, self.accent, self.strong),
            open: state(self.raised, self.line, self.text),
        }
    }
}

/// Black or white, whichever is easier to read on a colour. One of them always has a contrast of
/// 4.5:1.
pub(crate) fn ink_on(ground: Color32) -> Color32 {
    let (black, white) = (Color32::BLACK, Color32::WHITE);
    if contrast(black, ground) > contrast(white, ground) { black } else { white }
}

/// Source: WCAG 2.2, "relative luminance".
fn luminance(color: Color32) -> f32 {
    let linear = |channel: u8| {
        let value = f32::from(channel) / 255.0;
        if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
    };
    0.2126 * linear(color.r()) + 0.7152 * linear(color.g()) + 0.0722 * linear(color.b())
}

/// Source: WCAG 2.2, "contrast ratio".
fn contrast(one: Color32, other: Color32) -> f32 {
    let (one, other) = (luminance(one), luminance(other));
    (one.max(other) + 0.05) / (one.min(other) + 0.05)
}

/// Sets fonts and both themes; once, before the first frame.
pub fn apply_style(ctx: &Context) {
    egui_material_icons::initialize(ctx);
    ctx.options_mut(|options| options.zoom_with_keyboard = false);
    ctx.set_visuals_of(egui::Theme::Dark, DARK.visuals(Visuals::dark()));
    ctx.set_visuals_of(egui::Theme::Light, LIGHT.visuals(Visuals::light()));
    ctx.all_styles_mut(set_sizes);
}

fn set_sizes(style: &mut Style) {
    let proportional = |size| FontId::new(size, FontFamily::Proportional);
    style.text_styles = [
        (TextStyle::Small, proportional(SMALL)),
        (TextStyle::Body, proportional(BODY)),
        (TextStyle::Button, proportional(BODY)),
        (TextStyle::Heading, proportional(HEADING)),
        (TextStyle::Monospace, FontId::new(MONOSPACE, FontFamily::Monospace)),
    ]
    .into();
    style.spacing.item_spacing = egui::vec2(2.0 * GRID, GRID);
    style.spacing.button_padding = egui::vec2(2.0 * GRID, GRID);
    style.spacing.interact_size.y = ROW;
    style.spacing.menu_margin = egui::Margin::same(GRID as i8);
    style.animation_time = 0.08;
}

#[cfg(test)]
mod tests {
    use super::{DARK, LIGHT, Tokens, contrast, ink_on};

    fn check(theme: &str, tokens: &Tokens) {
        let grounds = [tokens.ground, tokens.panel, tokens.raised, tokens.field, tokens.hovered];
        for ground in grounds {
            for text in [tokens.text, tokens.strong] {
                assert!(contrast(text, ground) >= 4.5, "{theme}: {text:?} on {ground:?}");
            }
        }
        for ground in [tokens.ground, tokens.panel, tokens.raised, tokens.field] {
            for text in [tokens.weak, tokens.error, tokens.warning, tokens.good, tokens.accent] {
                assert!(contrast(text, ground) >= 4.5, "{theme}: {text:?} on {ground:?}");
            }
        }
        assert!(contrast(tokens.on_accent, tokens.accent) >= 4.5, "{theme}: on accent");
        assert!(contrast(tokens.text, tokens.selection) >= 4.5, "{theme}: on selection");
        for ground in [tokens.ground, tokens.panel] {
            let ends = [&tokens.track, &tokens.agree, &tokens.oppose];
            for mark in tokens.domains.iter().chain(&tokens.levels).chain(ends) {
                assert!(contrast(*mark, ground) >= 3.0, "{theme}: {mark:?} on {ground:?}");
            }
        }
    }

    #[test]
    fn numbers_can_be_read_on_every_colour_of_a_map() {
        for tokens in [&DARK, &LIGHT] {
            for step in -20..=20 {
                let ground = tokens.between(f64::from(step) / 20.0);
                assert!(contrast(ink_on(ground), ground) >= 4.5, "{ground:?}");
            }
            assert_eq!(tokens.between(-3.0), tokens.oppose);
            assert_eq!(tokens.between(0.0), tokens.even);
        }
    }

    #[test]
    fn text_and_marks_have_the_contrast_that_wcag_asks_for() {
        check("dark", &DARK);
        check("light", &LIGHT);
    }

    #[test]
    fn levels_have_colours_of_their_own_and_words_on_them_can_be_read() {
        for tokens in [&DARK, &LIGHT] {
            for (index, level) in super::KNOWN_LEVELS.iter().enumerate() {
                let color = tokens.level(level);
                let others = super::KNOWN_LEVELS[..index].iter();
                assert!(others.clone().all(|other| tokens.level(other) != color), "{level}");
                let ground = tokens.level_ground(level);
                assert!(contrast(ink_on(ground), ground) >= 4.5, "{level}");
            }
        }
    }

    #[test]
    fn a_domain_has_one_colour_and_known_ones_differ() {
        let colors: Vec<_> =
            super::KNOWN_DOMAINS.iter().map(|domain| DARK.domain(domain)).collect();
        let mut unique = colors.clone();
        unique.dedup();
        assert_eq!(colors, unique);
        assert_eq!(DARK.domain("Medical"), DARK.domain("medical"));
    }
}
