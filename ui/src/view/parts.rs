//! Small parts that several panels are made of.

use egui::containers::menu::MenuButton;
use egui::{
    Button, Color32, Id, Label, Response, RichText, Role, Ui, UiBuilder, WidgetInfo, WidgetText,
    vec2,
};
use egui_material_icons::{MaterialIcon, icons as symbols};
use meav_protocol::{EngineChoice, Method, RecipeStamp, Remedy, UserError};

use super::design_tokens::{GRID, ICON, ROW, Tokens};
use crate::action::{Action, DialogAction};
use crate::command::UiCommand;
pub(crate) use crate::sweep_form::parse_number;

/// A button with a symbol for a face, and a name for those who hover over it or can't see it.
pub(crate) fn icon_button(ui: &mut Ui, icon: MaterialIcon, name: &str) -> Response {
    symbol_button(ui, icon.codepoint, name)
}

/// As [`icon_button`], for the symbols of commands.
pub(crate) fn symbol_button(ui: &mut Ui, symbol: &str, name: &str) -> Response {
    named(square_ui(ui, |ui| ui.add(symbol_face(RichText::new(symbol)))), name)
}

/// As [`icon_button`], with a colour.
pub(crate) fn colored_button(
    ui: &mut Ui,
    icon: MaterialIcon,
    color: Color32,
    name: &str,
) -> Response {
    let face = RichText::new(icon.codepoint).color(color);
    named(square_ui(ui, |ui| ui.add(symbol_face(face))), name)
}

/// The button of a menu with more to do with `name`.
pub(crate) fn more_menu(ui: &mut Ui, name: &str, add: impl FnOnce(&mut Ui)) {
    let button = symbol_face(RichText::new(symbols::ICON_MORE_VERT.codepoint));
    let response = square_ui(ui, |ui| MenuButton::from_button(button).ui(ui, add).0);
    named(response, &format!("More for {name}"));
}

fn symbol_face(face: RichText) -> Button<'static> {
    Button::new(face.size(ICON)).small().frame_when_inactive(false).min_size(vec2(ROW, ROW))
}

/// A place as wide as it is high.
fn square_ui(ui: &mut Ui, add: impl FnOnce(&mut Ui) -> Response) -> Response {
    let padding = ui.spacing().button_padding;
    ui.spacing_mut().button_padding = vec2((ROW - ICON) / 2.0, 0.0);
    let response = add(ui);
    ui.spacing_mut().button_padding = padding;
    response
}

/// Gives a button the name by which screen readers, tests and tooltips know it.
pub(crate) fn named(response: Response, name: &str) -> Response {
    let is_enabled = response.enabled();
    response.widget_info(|| WidgetInfo::labeled(Role::Button, is_enabled, name));
    response.on_hover_text(name)
}

/// Whether what has this id was not there a frame ago; to be asked once per frame.
pub(crate) fn is_new(ui: &Ui, id: Id) -> bool {
    let key = id.with("last seen");
    let pass = ui.ctx().cumulative_pass_nr();
    let before = ui.data(|data| data.get_temp::<u64>(key));
    ui.data_mut(|data| data.insert_temp(key, pass));
    before.is_none_or(|before| before + 1 < pass)
}

/// Scrolls what the keyboard has just come to into sight; to be called at the end of what scrolls.
pub(crate) fn scroll_to_focus(ui: &Ui) {
    let key = ui.scope_id().with("last focus");
    let focused = ui.memory(egui::Memory::focused);
    let before = ui.data_mut(|data| {
        let before = data.get_temp::<Option<Id>>(key).flatten();
        data.insert_temp(key, focused);
        before
    });
    let moved = focused.filter(|_| focused != before).and_then(|id| ui.ctx().read_response(id));
    // The keyboard may be somewhere else.
    let is_here = |response: &Response| {
        response.layer_id == ui.layer_id() && ui.min_rect().intersects(response.rect)
    };
    if let Some(response) = moved.filter(is_here) {
        ui.scroll_to_rect(response.rect, None);
    }
}

/// A command by its name, with its symbol and its keys.
pub(crate) fn command_ui(
    ui: &mut Ui,
    command: UiCommand,
    is_chosen: bool,
    min_width: f32,
) -> Response {
    let face = format!("{}  {}", command.icon(), command.text());
    let mut button = Button::selectable(is_chosen, face).min_size(vec2(min_width, ROW));
    if let Some(keys) = command.keys() {
        button = button.shortcut_text(keys);
    }
    let response = ui.add(button);
    response.widget_info(|| WidgetInfo::selected(Role::Button, true, is_chosen, command.text()));
    response.on_hover_text(command.tooltip())
}

/// The button to press.
pub(crate) fn primary_button(ui: &mut Ui, text: &str) -> Response {
    let tokens = Tokens::of(ui.visuals());
    let face = RichText::new(text).color(tokens.on_accent).strong();
    ui.add(Button::new(face).fill(tokens.accent))
}

/// What an engine computes on, and why.
pub(super) fn choice_text(choice: &EngineChoice) -> String {
    let free = choice.gpu.as_ref().map(|gpu| {
        let [free, total] = [gpu.free_bytes, gpu.total_bytes].map(|bytes| bytes as f64 / 1e9);
        format!(", {free:.1} of {total:.1} GB free at its start")
    });
    format!("{choice}{}: {}", free.unwrap_or_default(), choice.reason)
}

/// Text that is read last.
pub(crate) fn weak(ui: &mut Ui, text: impl Into<String>) -> Response {
    let color = Tokens::of(ui.visuals()).weak;
    ui.label(RichText::new(text).small().color(color))
}

/// A part's title.
pub(crate) fn title(ui: &mut Ui, text: &str) -> Response {
    let color = Tokens::of(ui.visuals()).strong;
    ui.label(RichText::new(text).color(color).strong())
}

/// A row of choices, with a name by which screen readers announce it.
pub(crate) fn group_ui<R>(ui: &mut Ui, name: &str, add: impl FnOnce(&mut Ui) -> R) -> R {
    let group = UiBuilder::new().accessibility_role(Role::Group).accessibility_label(name);
    ui.scope_builder(group, |ui| ui.horizontal_wrapped(add).inner).inner
}

/// Text that takes one line and ends in `…` where there is no room; hovering shows all of it.
pub(crate) fn one_line(ui: &mut Ui, text: impl Into<WidgetText>) -> Response {
    ui.add(Label::new(text).truncate())
}

/// An error where it happened: what is wrong, what to do, details folded, and the remedy if there
/// is one that a button can offer.
pub(crate) fn user_error_ui(ui: &mut Ui, err: &UserError) -> Vec<Action> {
    let tokens = Tokens::of(ui.visuals());
    let mut actions = Vec::new();
    let frame = egui::Frame::new()
        .stroke(egui::Stroke::new(1.0, tokens.error))
        .corner_radius(GRID)
        .inner_margin(2.0 * GRID);
    let left = egui::Layout::top_down(egui::Align::Min);
    frame.show(ui, |ui| {
        ui.with_layout(left, |ui| {
            ui.set_width(ui.available_width());
            ui.add(Label::new(RichText::new(&err.summary).color(tokens.error)).wrap());
            match (err.remedy, &err.hint) {
                (Some(remedy), _) => actions.extend(remedy_ui(ui, remedy)),
                (None, Some(hint)) => {
                    ui.add(Label::new(hint).wrap());
                }
                (None, None) => {}
            }
            if !err.detail.is_empty() && err.detail != err.summary {
                let id = ui.scope_id().with(("details", &err.detail));
                egui::CollapsingHeader::new("Details").id_salt(id).show(ui, |ui| {
                    ui.add(Label::new(RichText::new(&err.detail).monospace()).wrap());
                    if ui.button("Copy details").clicked() {
                        actions.push(Action::Copy(err.to_string()));
                    }
                });
            }
        })
    });
    actions
}

/// The button that does what would help.
pub(crate) fn remedy_ui(ui: &mut Ui, remedy: Remedy) -> Option<Action> {
    match remedy {
        Remedy::FetchDemo => {
            primary_button(ui, "Get the demo model (98 MB)").clicked().then_some(Action::FetchDemo)
        }
        Remedy::Replace => {
            let is_clicked = ui.button("Replace it").clicked();
            is_clicked.then_some(Action::Dialog(DialogAction::Replace))
        }
        Remedy::UseDtype(dtype) => {
            let is_clicked = primary_button(ui, &format!("Use {dtype}")).clicked();
            is_clicked.then_some(Action::SetDtype(dtype))
        }
    }
}

/// A recipe as a chip: its digits, and each vector with its λ in its domain's colour. Pressing it
/// sets the knobs to it.
pub(crate) fn recipe_chip_ui(ui: &mut Ui, recipe: &RecipeStamp) -> Option<Action> {
    let name = format!("Set the knobs to {recipe}");
    let job = recipe_text(ui, recipe);
    let response = ui.add(Button::new(job).small().wrap_mode(egui::TextWrapMode::Truncate));
    named(response, &name).clicked().then(|| Action::ApplyRecipe(Box::new(recipe.clone())))
}

/// A recipe in colours.
pub(crate) fn recipe_text(ui: &Ui, recipe: &RecipeStamp) -> egui::text::LayoutJob {
    let tokens = Tokens::of(ui.visuals());
    let font = egui::TextStyle::Small.resolve(ui.style());
    let mut job = egui::text::LayoutJob::default();
    let mut push = |text: &str, color| {
        job.append(text, 0.0, egui::TextFormat::simple(font.clone(), color));
    };
    push(&short_fingerprint(&recipe.fingerprint), tokens.weak);
    if recipe.vectors.is_empty() {
        push(" base", tokens.text);
    }
    if !recipe.vectors.is_empty() && recipe.method != Method::TaskArithmetic {
        push(&format!("  {}", recipe.method), tokens.text);
    }
    for term in &recipe.vectors {
        push("  • ", tokens.domain(&term.domain));
        push(&format!("{} {}", term.domain, signed(term.coefficient)), tokens.text);
        if !term.scope.is_everywhere() {
            push(&format!(" ({})", term.scope), tokens.weak);
        }
    }
    job
}

/// `#a1b2`.
pub(crate) fn short_fingerprint(fingerprint: &str) -> String {
    let digits = fingerprint.strip_prefix("blake3:").unwrap_or(fingerprint);
    format!("#{}", digits.get(..4).unwrap_or(digits))
}

/// With a sign and two decimals, so that numbers in a column align; the typographic minus is as
/// wide as the plus.
pub(crate) fn signed(value: f64) -> String {
    let magnitude = format!("{:.2}", value.abs());
    match () {
        () if magnitude == "0.00" => format!(" {magnitude}"),
        () if value < 0.0 => format!("−{magnitude}"),
        () => format!("+{magnitude}"),
    }
}

/// To three figures, whatever its size.
pub(crate) fn figures(value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let magnitude = value.abs().log10().floor();
    if !(-4.0..6.0).contains(&magnitude) {
        return format!("{value:.2e}");
    }
    format!("{value:.*}", (2.0 - magnitude).max(0.0) as usize)
}

/// Bytes in the unit that a person would use.
pub(crate) fn bytes(count: u64) -> String {
    let count = count as f64;
    if count >= 1e9 { format!("{:.1} GB", count / 1e9) } else { format!("{:.1} MB", count / 1e6) }
}

/// A span of time as a clock shows it.
pub(crate) fn clock(secs: f64) -> String {
    let secs = secs.max(0.0).round() as u64;
    let (hours, minutes, secs) = (secs / 3600, secs / 60 % 60, secs % 60);
    if hours > 0 {
        format!("{hours}:{minutes:02}:{secs:02}")
    } else {
        format!("{minutes}:{secs:02}")
    }
}

/// A moment of the workspace (RFC 3339) in the time of this place.
pub(crate) fn moment(rfc_3339: &str) -> String {
    match rfc_3339.parse::<jiff::Timestamp>() {
        Ok(time) => {
            time.to_zoned(jiff::tz::TimeZone::system()).strftime("%Y-%m-%d %H:%M").to_string()
        }
        Err(_) => rfc_3339.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_signs_and_come_back_from_what_people_type() {
        assert_eq!(signed(-0.7), "−0.70");
        assert_eq!(signed(0.5), "+0.50");
        assert_eq!(signed(-0.001), " 0.00");
        for text in ["−0.7", "-0,7", " -.7 "] {
            assert_eq!(parse_number(text), Some(-0.7), "{text}");
        }
        assert_eq!(parse_number("nan"), None);
        assert_eq!(parse_number("seven"), None);
    }

    #[test]
    fn spans_of_time_read_like_clocks() {
        assert_eq!(clock(9.6), "0:10");
        assert_eq!(clock(190.0), "3:10");
        assert_eq!(clock(3661.0), "1:01:01");
    }
}
