use std::path::{Path, PathBuf};

use meav_protocol::{
    Description, Dtype, ExportTarget, Fact, FileKind, JobId, JobSpec, Method, OpenedRecipe,
    Outcome, Remedy, Scope, UserError, VectorTerm,
};
use meav_ui::{
    Action, DialogAction, Effect, FormField, KnobAction, PathPurpose, Recent, UiCommand,
};

use crate::support::{FINANCIAL, MEDICAL, Window};
use crate::values::{missing_vector, opened_recipe};

const FILE: &str = "/recipes/careful.meav";

fn take_open(window: &mut Window) -> (JobId, JobSpec) {
    window.take_job(|spec| matches!(spec, JobSpec::OpenRecipe { .. }))
}

fn take_save(window: &mut Window) -> (JobId, ExportTarget, Vec<VectorTerm>) {
    match window.take_job(|spec| matches!(spec, JobSpec::SaveRecipe { .. })) {
        (job, JobSpec::SaveRecipe { setup, out }) => (job, out, setup.vectors),
        (_, other) => panic!("{other:?}"),
    }
}

fn dialog(window: &mut Window, action: DialogAction) {
    window.update(Action::Dialog(action));
}

/// Opens a recipe whose `legal` is missing.
fn with_missing() -> Window {
    let mut window = Window::ready();
    window.update(Action::OpenPaths(vec![FILE.into()]));
    let (job, _) = take_open(&mut window);
    let mut recipe = opened_recipe();
    recipe.missing = vec![missing_vector("legal")];
    window.fact(job, Fact::Recipe(Box::new(recipe)));
    window.finish(job, Outcome::Done);
    window
}

#[test]
fn recipe_with_all_its_parts_sets_everything_at_once() {
    let mut window = Window::ready();
    window.set_knob(FINANCIAL, 1.0);
    window.answer_all();
    window.update(Action::OpenPaths(vec![FILE.into()]));
    let (job, spec) = take_open(&mut window);
    assert_eq!(spec, JobSpec::OpenRecipe { path: FILE.into() });
    window.fact(job, Fact::Recipe(Box::new(opened_recipe())));
    window.finish(job, Outcome::Done);
    let prepares = window.take_prepares();
    assert_eq!(prepares.len(), 1, "in one step");
    let setup = &prepares[0].1;
    let wanted = opened_recipe();
    assert_eq!(Some(&setup.model), wanted.model.as_ref());
    assert_eq!((setup.dtype, setup.method), (Dtype::F32, Method::Ties { density: 0.3 }));
    assert_eq!(setup.vectors[..2], wanted.vectors, "in its order, with its scopes");
    assert_eq!(setup.vectors[2], VectorTerm::new("financial", 0.0), "what it does not name");
    let kept = window.settings();
    assert_eq!(kept.recent[0], Recent { path: FILE.into(), is_model: false });
    assert!(kept.recent[0].is_recipe() && !kept.recent[0].is_vector());
}

#[test]
fn recipe_takes_up_a_knob_that_was_set_aside() {
    let mut window = Window::ready();
    window.set_knob(MEDICAL, 0.5);
    let (job, _) = window.take_prepares()[0];
    window.fail(job, crate::values::about("medical", "The vector has other layers"));
    window.answer_all();
    window.update(Action::OpenPaths(vec![FILE.into()]));
    let (job, _) = take_open(&mut window);
    let recipe = OpenedRecipe { model: None, ..opened_recipe() };
    window.fact(job, Fact::Recipe(Box::new(recipe)));
    window.finish(job, Outcome::Done);
    let (_, setup) = window.take_prepares()[0].clone();
    assert_eq!(setup.model, Path::new("demo"), "the recipe names none that is here");
    assert!(setup.vectors.iter().any(|term| term.file == Path::new("medical")));
}

#[test]
fn files_are_known_as_recipes_by_their_endings() {
    for (path, is_recipe) in [
        ("/a/x.meav", true),
        ("/a/x.meav.json", true),
        ("/a/X.MEAV", true),
        ("/a/x.json", false),
        ("/a/meav", false),
        ("/a/x.meav.safetensors", false),
    ] {
        let mut window = Window::ready();
        window.update(Action::OpenPaths(vec![path.into()]));
        let (_, spec) = window.take_jobs()[0].clone();
        assert_eq!(matches!(spec, JobSpec::OpenRecipe { .. }), is_recipe, "{path}");
    }
}

#[test]
fn recipe_can_be_given_to_any_dialog_that_opens_something() {
    for command in [UiCommand::OpenRecipe, UiCommand::OpenModel, UiCommand::AddVector] {
        let mut window = Window::ready();
        window.command(command);
        dialog(&mut window, DialogAction::SetText("careful.meav".to_owned()));
        dialog(&mut window, DialogAction::Accept);
        let (job, spec) = take_open(&mut window);
        let from_where_it_started = JobSpec::OpenRecipe { path: "/work/careful.meav".into() };
        assert_eq!(spec, from_where_it_started, "{command:?}");
        window.fact(job, Fact::Recipe(Box::new(opened_recipe())));
        window.finish(job, Outcome::Done);
        assert_eq!(window.settings().dtype, Dtype::F32, "{command:?}");
        dialog(&mut window, DialogAction::Accept);
        assert_eq!(window.take_jobs().len(), 1, "the dialog has closed; the weights follow");
    }
}

#[test]
fn recipe_that_cannot_be_read_changes_nothing() {
    let mut window = Window::ready();
    let before = window.settings();
    window.update(Action::OpenPaths(vec![FILE.into()]));
    let (job, _) = take_open(&mut window);
    window.fail(job, UserError::new("This is no recipe", "Take another file"));
    assert_eq!(window.settings(), before);
    assert_eq!(window.take_prepares(), []);
}

#[test]
fn recipe_that_was_called_off_is_not_taken() {
    let mut window = Window::ready();
    window.command(UiCommand::OpenRecipe);
    dialog(&mut window, DialogAction::SetText(FILE.to_owned()));
    dialog(&mut window, DialogAction::Accept);
    let (job, _) = take_open(&mut window);
    dialog(&mut window, DialogAction::Close);
    window.fact(job, Fact::Recipe(Box::new(opened_recipe())));
    window.finish(job, Outcome::Done);
    assert_eq!(window.settings().dtype, Dtype::Bf16);
}

#[test]
fn nothing_changes_while_parts_of_a_recipe_are_sought() {
    let mut window = with_missing();
    assert_eq!(window.take_prepares(), []);
    assert_eq!(window.settings().dtype, Dtype::Bf16);
    dialog(&mut window, DialogAction::Close);
    assert_eq!(window.settings().dtype, Dtype::Bf16, "closing it leaves all as it was");
    assert_eq!(window.take_prepares(), []);
}

#[test]
fn recipe_can_be_used_without_what_is_missing() {
    let mut window = with_missing();
    dialog(&mut window, DialogAction::Accept);
    let (_, setup) = window.take_prepares()[0].clone();
    assert_eq!(setup.vectors[..2], opened_recipe().vectors);
    assert!(!setup.vectors.iter().any(|term| term.file.ends_with("legal.safetensors")));
}

/// Has the dialog look for its only part at this path.
fn locate(window: &mut Window, path: &str) {
    dialog(window, DialogAction::SetLocation(0, path.to_owned()));
    dialog(window, DialogAction::Locate(0));
}

/// Answers the look: a file of that kind with these values lies there.
fn tell(window: &mut Window, kind: FileKind, fingerprint: &str) {
    let (job, _) = window.take_job(|spec| matches!(spec, JobSpec::Describe { .. }));
    let rows = vec![("fingerprint".to_owned(), fingerprint.to_owned())];
    let title = "A file".to_owned();
    window.fact(job, Fact::Described(Description { kind, title, rows }));
    window.finish(job, Outcome::Done);
}

/// The recipe with `legal` where it was found.
fn with_legal() -> OpenedRecipe {
    let mut recipe = opened_recipe();
    recipe.vectors.insert(1, VectorTerm::new("/home/me/legal.safetensors", 0.4));
    recipe
}

#[test]
fn located_vector_gets_its_lambda_when_the_recipe_is_read_again() {
    let mut window = with_missing();
    locate(&mut window, "~/legal.safetensors");
    dialog(&mut window, DialogAction::Locate(0));
    dialog(&mut window, DialogAction::Accept);
    assert_eq!(window.take_prepares(), [], "it waits for the look");
    tell(&mut window, FileKind::Vector, "blake3:c0ffeelegal");
    dialog(&mut window, DialogAction::Accept);
    assert_eq!(window.take_prepares(), [], "it waits for the recipe");
    let (job, spec) = take_open(&mut window);
    assert_eq!(spec, JobSpec::OpenRecipe { path: FILE.into() });
    window.fact(job, Fact::Recipe(Box::new(with_legal())));
    window.finish(job, Outcome::Done);
    assert_eq!(window.take_prepares(), [], "it waits for a word");
    dialog(&mut window, DialogAction::Accept);
    let (_, setup) = window.take_prepares()[0].clone();
    assert_eq!(setup.vectors[..3], with_legal().vectors, "in the order of the sum");
}

/// Opens a recipe whose `legal` and `safety` are missing, and has both found before the recipe is
/// read once more. Gives back the two jobs that read it.
fn with_two_located() -> (Window, JobId, JobId) {
    let mut window = Window::ready();
    window.update(Action::OpenPaths(vec![FILE.into()]));
    let (job, _) = take_open(&mut window);
    let missing = vec![missing_vector("legal"), missing_vector("safety")];
    window.fact(job, Fact::Recipe(Box::new(OpenedRecipe { missing, ..opened_recipe() })));
    window.finish(job, Outcome::Done);
    let mut jobs = Vec::new();
    for (index, name) in ["legal", "safety"].into_iter().enumerate() {
        let path = format!("/home/me/{name}.safetensors");
        dialog(&mut window, DialogAction::SetLocation(index, path));
        dialog(&mut window, DialogAction::Locate(index));
        tell(&mut window, FileKind::Vector, &format!("blake3:c0ffee{name}"));
        jobs.push(take_open(&mut window).0);
    }
    (window, jobs[0], jobs[1])
}

#[test]
fn parts_that_are_located_in_quick_succession_leave_the_dialog_open() {
    let (mut window, first, second) = with_two_located();
    assert_eq!(window.cancelled(), [first]);
    window.fact(first, Fact::Recipe(Box::new(with_legal())));
    window.finish(first, Outcome::Done);
    assert_eq!(window.take_prepares(), [], "nobody has agreed");
    dialog(&mut window, DialogAction::Accept);
    assert_eq!(window.take_prepares(), [], "it waits for the second reading");
    window.fact(second, Fact::Recipe(Box::new(with_legal())));
    window.finish(second, Outcome::Done);
    assert_eq!(window.take_prepares(), []);
    dialog(&mut window, DialogAction::Accept);
    assert_eq!(window.take_prepares()[0].1.vectors[..3], with_legal().vectors);
}

#[test]
fn recipe_that_is_asked_about_is_not_asked_about_twice() {
    let mut window = with_missing();
    dialog(&mut window, DialogAction::SetLocation(0, "~/legal.safetensors".to_owned()));
    window.update(Action::OpenPaths(vec![FILE.into()]));
    let (job, _) = take_open(&mut window);
    window.fact(job, Fact::Recipe(Box::new(with_legal())));
    window.finish(job, Outcome::Done);
    assert_eq!(window.take_prepares(), [], "it waits for a word");
    dialog(&mut window, DialogAction::Locate(0));
    let (_, spec) = window.take_job(|spec| matches!(spec, JobSpec::Describe { .. }));
    assert_eq!(spec, JobSpec::Describe { path: "/home/me/legal.safetensors".into() });
}

#[test]
fn recipe_whose_parts_are_missing_waits_until_nothing_else_is_asked() {
    let mut window = Window::ready();
    window.update(Action::OpenPaths(vec![FILE.into()]));
    let (job, _) = take_open(&mut window);
    window.command(UiCommand::ExtractVector);
    let missing = vec![missing_vector("legal")];
    window.fact(job, Fact::Recipe(Box::new(OpenedRecipe { missing, ..opened_recipe() })));
    window.finish(job, Outcome::Done);
    window.tick();
    assert!(window.model.form().is_some(), "what is typed there stays");
    dialog(&mut window, DialogAction::Close);
    window.tick();
    dialog(&mut window, DialogAction::Accept);
    assert_eq!(window.take_prepares()[0].1.vectors[..2], opened_recipe().vectors);
}

#[test]
fn located_vector_that_the_recipe_does_not_find_is_left_out() {
    let mut window = with_missing();
    locate(&mut window, "/usb/legal.safetensors");
    tell(&mut window, FileKind::Vector, "blake3:c0ffeelegal");
    let (job, _) = take_open(&mut window);
    let missing = vec![missing_vector("legal")];
    let recipe = OpenedRecipe { missing, ..opened_recipe() };
    window.fact(job, Fact::Recipe(Box::new(recipe)));
    window.finish(job, Outcome::Done);
    dialog(&mut window, DialogAction::Accept);
    assert_eq!(window.take_prepares()[0].1.vectors[..2], opened_recipe().vectors);
}

#[test]
fn vector_of_other_values_is_not_the_recipes() {
    let mut window = with_missing();
    locate(&mut window, "/usb/legal.safetensors");
    tell(&mut window, FileKind::Vector, "blake3:other");
    assert_eq!(window.take_jobs(), [], "nothing is to be learnt from the recipe");
    dialog(&mut window, DialogAction::Accept);
    assert_eq!(window.take_prepares()[0].1.vectors[..2], opened_recipe().vectors);
}

#[test]
fn dialog_that_is_left_calls_off_what_it_waits_for() {
    let mut window = with_missing();
    locate(&mut window, "/usb/legal.safetensors");
    tell(&mut window, FileKind::Vector, "blake3:c0ffeelegal");
    let (job, _) = take_open(&mut window);
    dialog(&mut window, DialogAction::Close);
    assert_eq!(window.cancelled(), [job]);
    window.fact(job, Fact::Recipe(Box::new(with_legal())));
    window.finish(job, Outcome::Cancelled);
    assert_eq!(window.take_prepares(), []);
}

#[test]
fn located_file_that_is_none_is_not_taken() {
    let mut window = with_missing();
    dialog(&mut window, DialogAction::SetLocation(0, "/models/big.gguf".to_owned()));
    dialog(&mut window, DialogAction::Locate(0));
    let (job, spec) = window.take_job(|spec| matches!(spec, JobSpec::Describe { .. }));
    window.answer(job, &spec);
    dialog(&mut window, DialogAction::SetLocation(7, "/nowhere".to_owned()));
    dialog(&mut window, DialogAction::Locate(7));
    assert_eq!(window.take_jobs(), [], "there is no such part");
    dialog(&mut window, DialogAction::Accept);
    let files: Vec<PathBuf> = window.settings().knobs.into_iter().map(|knob| knob.file).collect();
    assert!(!files.contains(&"/models/big.gguf".into()), "a model is no vector");
}

#[test]
fn path_that_is_changed_while_it_is_looked_at_calls_the_look_off() {
    let mut window = with_missing();
    dialog(&mut window, DialogAction::SetLocation(0, "/a/legal.safetensors".to_owned()));
    dialog(&mut window, DialogAction::Locate(0));
    let (job, spec) = window.take_job(|spec| matches!(spec, JobSpec::Describe { .. }));
    dialog(&mut window, DialogAction::SetLocation(0, "/b/legal.safetensors".to_owned()));
    assert_eq!(window.cancelled(), [job]);
    window.answer(job, &spec);
    dialog(&mut window, DialogAction::Accept);
    assert!(window.settings().knobs.iter().all(|knob| !knob.file.starts_with("/a")));
}

#[test]
fn part_is_located_with_the_dialog_of_the_system() {
    let mut window = with_missing();
    dialog(&mut window, DialogAction::BrowseLocation { index: 0, folder: false });
    let Some(Effect::Pick(request)) = window.effects.pop() else { panic!("nothing is picked") };
    assert_eq!(request.purpose, PathPurpose::Locate(0));
    window.update(Action::Picked(PathPurpose::Locate(0), Vec::new()));
    assert_eq!(window.take_jobs(), [], "it was cancelled");
    window.update(Action::Picked(PathPurpose::Locate(0), vec!["/v/legal.safetensors".into()]));
    let (_, spec) = window.take_job(|spec| matches!(spec, JobSpec::Describe { .. }));
    assert_eq!(spec, JobSpec::Describe { path: "/v/legal.safetensors".into() });
    let field = PathPurpose::Field(FormField::Base);
    window.update(Action::Picked(field, vec!["/v/legal.safetensors".into()]));
    assert_eq!(window.take_jobs(), [], "that was for another dialog");
}

#[test]
fn located_model_is_the_recipes_model() {
    let mut window = Window::ready();
    window.update(Action::OpenPaths(vec![FILE.into()]));
    let (job, _) = take_open(&mut window);
    let mut recipe = opened_recipe();
    recipe.model = None;
    let mut part = missing_vector("Mistral");
    part.is_model = true;
    recipe.missing = vec![part];
    window.fact(job, Fact::Recipe(Box::new(recipe)));
    window.finish(job, Outcome::Done);
    locate(&mut window, "/m/mistral.gguf");
    tell(&mut window, FileKind::Model, "blake3:other");
    dialog(&mut window, DialogAction::Accept);
    assert_eq!(window.take_prepares()[0].1.model, Path::new("/m/mistral.gguf"));
}

#[test]
fn recipe_is_saved_under_a_name_that_says_what_it_is() {
    let mut window = Window::ready();
    window.set_knob(MEDICAL, -0.7);
    window.set_knob(FINANCIAL, 0.5);
    window.command(UiCommand::SaveRecipe);
    dialog(&mut window, DialogAction::Accept);
    let (job, out, vectors) = take_save(&mut window);
    assert_eq!(out.path, Path::new("/home/me/Documents/medical-0.7 financial+0.5.meav"));
    assert!(!out.replace);
    assert_eq!(vectors, [VectorTerm::new("medical", -0.7), VectorTerm::new("financial", 0.5)]);
    let err = UserError::new("It is there already", "Choose another name");
    window.fail(job, UserError { remedy: Some(Remedy::Replace), ..err });
    dialog(&mut window, DialogAction::Replace);
    let (job, out, _) = take_save(&mut window);
    assert!(out.replace);
    window.fact(job, Fact::Written { path: out.path.clone(), summary: "the recipe".to_owned() });
    window.finish(job, Outcome::Done);
    assert_eq!(window.settings().recent[0].path, out.path);
    dialog(&mut window, DialogAction::Accept);
    assert!(!window.take_jobs().iter().any(|(_, it)| matches!(it, JobSpec::SaveRecipe { .. })));
}

#[test]
fn recipe_whose_name_got_longer_is_replaced_after_a_second_word() {
    let mut window = Window::ready();
    window.command(UiCommand::SaveRecipe);
    dialog(&mut window, DialogAction::SetText("/out/x".to_owned()));
    dialog(&mut window, DialogAction::Accept);
    let (job, out, _) = take_save(&mut window);
    assert_eq!(out, ExportTarget { path: "/out/x.meav".into(), replace: false });
    let err = UserError::new("/out/x.meav is there already", "Choose another name");
    window.fail(job, UserError { remedy: Some(Remedy::Replace), ..err });
    dialog(&mut window, DialogAction::Replace);
    assert_eq!(
        take_save(&mut window).1,
        ExportTarget { path: "/out/x.meav".into(), replace: true }
    );
}

#[test]
fn recipe_of_the_base_is_called_so() {
    let mut window = Window::ready();
    window.set_knob(MEDICAL, 0.7);
    window.update(Action::Knob(MEDICAL, KnobAction::SetBypassed(true)));
    window.command(UiCommand::SaveRecipe);
    dialog(&mut window, DialogAction::Accept);
    assert_eq!(take_save(&mut window).1.path, Path::new("/home/me/Documents/base.meav"));
}

#[test]
fn saved_recipe_has_an_ending_that_it_is_known_by() {
    for (typed, path, replace) in [
        ("/out/x", "/out/x.meav", false),
        ("/out/x.json", "/out/x.json.meav", false),
        ("/out/x.meav", "/out/x.meav", true),
        ("/out/x.meav.json", "/out/x.meav.json", true),
    ] {
        let mut window = Window::ready();
        window.command(UiCommand::SaveRecipe);
        // The system's dialog has asked about a file of that very name.
        window.update(Action::Picked(PathPurpose::SaveRecipe, vec![typed.into()]));
        let (_, out, _) = take_save(&mut window);
        assert_eq!(out, ExportTarget { path: path.into(), replace }, "{typed}");
    }
}

#[test]
fn vector_that_a_recipe_has_twice_is_on_two_knobs() {
    let mut window = Window::ready();
    window.update(Action::OpenPaths(vec![FILE.into()]));
    let (job, _) = take_open(&mut window);
    let mut recipe = opened_recipe();
    let scope = Scope { layers: vec![[20, 29]], ..Scope::default() };
    recipe.vectors.push(VectorTerm { scope, ..VectorTerm::new("medical", -0.2) });
    window.fact(job, Fact::Recipe(Box::new(recipe.clone())));
    window.finish(job, Outcome::Done);
    assert_eq!(window.take_prepares()[0].1.vectors[..3], recipe.vectors);
    let again = Window::with(window.settings()).take_prepares()[0].1.vectors.clone();
    assert_eq!(again[..3], recipe.vectors, "at the next start too");
}

#[test]
fn lambda_beyond_the_knobs_is_limited_and_said() {
    let mut window = Window::ready();
    window.update(Action::OpenPaths(vec![FILE.into()]));
    let (job, _) = take_open(&mut window);
    let mut recipe = opened_recipe();
    recipe.vectors[0].coefficient = 3.0;
    window.fact(job, Fact::Recipe(Box::new(recipe)));
    window.finish(job, Outcome::Done);
    assert_eq!(window.coefficients()[0], 1.5);
    assert_eq!(
        window.settings().knobs[0].scopes[0],
        Scope { layers: vec![[0, 9]], ..Scope::default() }
    );
}
