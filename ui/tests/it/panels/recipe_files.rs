use egui::Key;
use egui::accesskit::Role;
use egui_kittest::Harness;
use egui_kittest::kittest::{NodeT as _, Queryable as _};
use meav_protocol::{
    Description, Fact, FileKind, JobSpec, MissingPart, Outcome, UserError, VectorTerm,
};
use meav_ui::{Action, UiCommand};

use crate::hands::{Hands as _, harness};
use crate::support::{MEDICAL, Window};
use crate::values::{missing_vector, opened_recipe};

const FILE: &str = "/recipes/careful.meav";

/// Shows the dialog about a recipe of which these parts are missing.
fn asked_about(missing: Vec<MissingPart>) -> Harness<'static, Window> {
    let mut window = Window::ready();
    window.update(Action::OpenPaths(vec![FILE.into()]));
    let (job, _) = window.take_job(|spec| matches!(spec, JobSpec::OpenRecipe { .. }));
    let recipe = meav_protocol::OpenedRecipe { missing, ..opened_recipe() };
    window.fact(job, Fact::Recipe(Box::new(recipe)));
    window.finish(job, Outcome::Done);
    let mut harness = harness(window);
    harness.run();
    harness
}

/// Answers the look at a located file: it has this fingerprint.
fn tell(harness: &mut Harness<'_, Window>, kind: FileKind, fingerprint: &str) {
    let window = harness.state_mut();
    let (job, _) = window.take_job(|spec| matches!(spec, JobSpec::Describe { .. }));
    let rows = vec![("fingerprint".to_owned(), fingerprint.to_owned())];
    let title = "Alignment vector \"legal\"".to_owned();
    window.fact(job, Fact::Described(Description { kind, title, rows }));
    window.finish(job, Outcome::Done);
    harness.run();
}

#[test]
fn missing_parts_are_named_with_where_they_were_and_their_digits() {
    let mut model = missing_vector("Mistral");
    model.is_model = true;
    model.found = Some("Other values lie there now".to_owned());
    let harness = asked_about(vec![model, missing_vector("legal")]);
    for text in [
        "Parts of careful are missing",
        "Mistral",
        "legal",
        "#c0ff",
        "It was /old/legal.safetensors",
        "It was /old/Mistral.safetensors",
        "Other values lie there now",
    ] {
        assert!(harness.shows(text), "{text}");
    }
}

#[test]
fn part_is_located_by_its_path_with_the_keyboard() {
    let mut harness = asked_about(vec![missing_vector("legal")]);
    assert_eq!(harness.focused().as_deref(), Some("Where legal is now"));
    harness.types("/new/legal.safetensors");
    harness.key(Key::Enter);
    assert!(harness.shows("Looking…"));
    let accept = harness.get_by_role_and_label(Role::Button, "Use what is there");
    assert!(accept.accesskit_node().is_disabled(), "the engine looks at it");
    tell(&mut harness, FileKind::Vector, "blake3:c0ffeelegal");
    let window = harness.state_mut();
    let (job, _) = window.take_job(|spec| matches!(spec, JobSpec::OpenRecipe { .. }));
    let mut recipe = opened_recipe();
    recipe.vectors.push(VectorTerm::new("/new/legal.safetensors", 0.4));
    window.fact(job, Fact::Recipe(Box::new(recipe)));
    window.finish(job, Outcome::Done);
    harness.run();
    assert!(harness.mentions("This is it"));
    harness.press("Open recipe");
    assert!(!harness.mentions("are missing"));
    let knobs = harness.state_mut().settings().knobs;
    let legal = knobs.iter().find(|knob| knob.file.ends_with("new/legal.safetensors"));
    assert_eq!(legal.expect("it is on a knob").coefficients[0], 0.4);
}

#[test]
fn vector_of_other_values_is_refused_and_a_model_of_other_values_is_told_of() {
    let mut harness = asked_about(vec![missing_vector("legal")]);
    harness.types("/new/legal.safetensors");
    harness.press("Look there for legal");
    tell(&mut harness, FileKind::Vector, "blake3:other");
    assert!(harness.mentions("That is another vector"));
    assert!(harness.shows("Use what is there"));
    let mut model = missing_vector("Mistral");
    model.is_model = true;
    let mut harness = asked_about(vec![model]);
    harness.types("/new/mistral.gguf");
    harness.press("Look there for Mistral");
    tell(&mut harness, FileKind::Vector, "blake3:other");
    assert!(harness.shows("That is a vector; the recipe wants a model here"));
    harness.press("Look there for Mistral");
    tell(&mut harness, FileKind::Model, "blake3:other");
    assert!(harness.mentions("It has other values than the recipe's"));
    harness.press("Open recipe");
    assert!(harness.state_mut().settings().model.ends_with("mistral.gguf"));
}

#[test]
fn file_that_is_nothing_says_so_until_the_path_is_changed() {
    let mut harness = asked_about(vec![missing_vector("legal")]);
    harness.get_by(|node| node.data().placeholder() == Some("Where legal is now")).click();
    harness.run();
    harness.types("/nowhere");
    harness.press("Look there for legal");
    let (job, _) = harness.state_mut().take_job(|it| matches!(it, JobSpec::Describe { .. }));
    harness.state_mut().fail(job, UserError::new("There is no such file", "Look at the path"));
    harness.run();
    assert!(harness.shows("There is no such file"));
    assert!(harness.shows("Use what is there"));
    harness
        .get_by(|node| {
            node.role() == Role::TextInput && node.value().as_deref() == Some("/nowhere")
        })
        .click();
    harness.run();
    harness.types("/legal.safetensors");
    assert!(!harness.shows("There is no such file"));
}

#[test]
fn recipe_that_cannot_be_read_again_says_so_where_the_part_was_found() {
    let mut harness = asked_about(vec![missing_vector("legal")]);
    let field = harness.get_by_role_and_label(Role::TextInput, "Where legal is now");
    assert!(field.is_focused(), "it is named for those who cannot see it");
    harness.types("/new/legal.safetensors");
    harness.key(Key::Enter);
    tell(&mut harness, FileKind::Vector, "blake3:c0ffeelegal");
    assert!(harness.shows("Open recipe"));
    let window = harness.state_mut();
    let (job, _) = window.take_job(|spec| matches!(spec, JobSpec::OpenRecipe { .. }));
    window.fail(job, UserError::new("The recipe has gone", "Look where it is"));
    harness.run();
    assert!(harness.shows("The recipe has gone"));
    assert!(harness.shows("Use what is there") && !harness.shows("Open recipe"));
}

#[test]
fn missing_parts_can_be_done_without_or_the_recipe_left() {
    let mut harness = asked_about(vec![missing_vector("legal")]);
    harness.press("Use what is there");
    assert_eq!(harness.state_mut().take_prepares().len(), 1);
    let mut harness = asked_about(vec![missing_vector("legal")]);
    harness.key(Key::Escape);
    assert!(!harness.mentions("are missing"));
    assert_eq!(harness.state_mut().take_prepares(), []);
}

#[test]
fn recipe_is_opened_again_from_the_menu_and_is_no_vector() {
    let mut window = Window::ready();
    window.update(Action::OpenPaths(vec![FILE.into()]));
    let (job, _) = window.take_job(|spec| matches!(spec, JobSpec::OpenRecipe { .. }));
    window.fact(job, Fact::Recipe(Box::new(opened_recipe())));
    window.finish(job, Outcome::Done);
    window.answer_all();
    window.command(UiCommand::AddVector);
    let mut harness = harness(window);
    harness.run();
    assert!(!harness.shows(FILE), "a vector was asked for");
    harness.key(Key::Escape);
    harness.state_mut().command(UiCommand::OpenRecipe);
    harness.run();
    assert!(harness.shows(FILE));
    harness.key(Key::Escape);
    harness.press("File");
    harness.get_by_label_contains("Open recent").click();
    harness.run();
    harness.press("careful (recipe)");
    harness.state_mut().take_job(|spec| matches!(spec, JobSpec::OpenRecipe { .. }));
}

#[test]
fn recipe_is_saved_from_the_details() {
    let mut window = Window::ready();
    window.set_knob(MEDICAL, 0.7);
    window.answer_all();
    let mut harness = harness(window);
    harness.run();
    harness.press("Save recipe…");
    assert!(harness.mentions("holds no weights"));
    harness.press("Save");
    harness.state_mut().take_job(|spec| matches!(spec, JobSpec::SaveRecipe { .. }));
}
