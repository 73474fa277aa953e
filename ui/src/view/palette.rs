use egui::{Id, Key, Modifiers, ScrollArea, TextEdit, Ui};
use nucleo_matcher::pattern::{CaseMatching, Normalization, Pattern};
use nucleo_matcher::{Config, Matcher};

use super::design_tokens::{GRID, ROW};
use super::parts::{command_ui, weak};
use crate::action::{Action, DialogAction};
use crate::command::UiCommand;

/// Every command by its name: type a few of its letters, choose with the arrow keys, press Enter.
pub(super) fn palette_ui(ui: &mut Ui, text: &str, is_new: bool) -> Vec<Action> {
    let mut actions = Vec::new();
    let key = Id::unique("palette choice");
    let found = matching(text);
    let mut chosen: usize =
        if is_new { 0 } else { ui.data(|data| data.get_temp(key)).unwrap_or_default() };
    let id = Id::unique("palette field");
    let has_focus = is_new || ui.memory(|memory| memory.has_focus(id));
    // The field would take the arrows for its cursor.
    let (down, up, enter) = ui.input_mut(|input| {
        (
            input.count_and_consume_key(Modifiers::NONE, Key::ArrowDown),
            input.count_and_consume_key(Modifiers::NONE, Key::ArrowUp),
            has_focus && input.consume_key(Modifiers::NONE, Key::Enter),
        )
    });
    chosen = (chosen + down).saturating_sub(up).min(found.len().saturating_sub(1));
    let mut new = text.to_owned();
    let field = TextEdit::singleline(&mut new).id(id).hint_text("Type a command");
    let response = ui.add(field.desired_width(f32::INFINITY));
    if is_new {
        response.request_focus();
    }
    if response.changed() {
        chosen = 0;
        actions.push(Action::Dialog(DialogAction::SetText(new)));
    }
    ui.add_space(GRID);
    let mut run = found.get(chosen).copied().filter(|_| enter);
    ScrollArea::vertical().max_height(14.0 * ROW).show(ui, |ui| {
        for (index, command) in found.iter().enumerate() {
            let response = command_ui(ui, *command, index == chosen, ui.available_width());
            if index == chosen && (down > 0 || up > 0) {
                response.scroll_to_me(None);
            }
            if response.clicked() {
                run = Some(*command);
            }
        }
        if found.is_empty() {
            weak(ui, "No command is called that");
        }
    });
    ui.data_mut(|data| data.insert_temp(key, chosen));
    if let Some(command) = run {
        actions = vec![Action::Dialog(DialogAction::Close), Action::Command(command)];
    }
    actions
}

/// The commands whose names have these letters in this order, the best match first.
fn matching(text: &str) -> Vec<UiCommand> {
    let all = UiCommand::ALL.into_iter().filter(|command| *command != UiCommand::Palette);
    if text.trim().is_empty() {
        return all.collect();
    }
    let mut matcher = Matcher::new(Config::DEFAULT);
    let pattern = Pattern::parse(text, CaseMatching::Ignore, Normalization::Smart);
    let mut letters = Vec::new();
    let mut scored: Vec<(u32, UiCommand)> = all
        .filter_map(|command| {
            let name = nucleo_matcher::Utf32Str::new(command.text(), &mut letters);
            Some((pattern.score(name, &mut matcher)?, command))
        })
        .collect();
    scored.sort_by_key(|(score, _)| std::cmp::Reverse(*score));
    scored.into_iter().map(|(_, command)| command).collect()
}

#[cfg(test)]
mod tests {
    use super::{UiCommand, matching};

    #[test]
    fn a_few_letters_find_a_command() {
        assert_eq!(matching("newch").first(), Some(&UiCommand::NewChat));
        assert_eq!(matching("dark").first(), Some(&UiCommand::ThemeDark));
        assert_eq!(matching("zzz"), []);
        assert_eq!(matching(" ").len(), UiCommand::ALL.len() - 1);
    }
}
