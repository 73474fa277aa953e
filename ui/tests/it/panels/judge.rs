use egui::Key;
use egui::accesskit::Role;
use egui_kittest::Harness;
use egui_kittest::kittest::{NodeT as _, Queryable as _};
use meav_protocol::{
    Calibration, Dtype, Event, Fact, JobSpec, MeasureName, Outcome, Secret, Stage, UserError,
};
use meav_ui::{Action, JudgeAction, JudgeChoice, JudgeForm, UiCommand};

use crate::hands::{Hands as _, engine_works, harness_of, is_disabled};
use crate::support::{FINANCIAL, MEDICAL, Window};
use crate::values::loaded;

/// The Judge screen with a data file.
fn screen(change: impl FnOnce(&mut JudgeForm)) -> Harness<'static, Window> {
    let mut window = Window::ready();
    window.command(UiCommand::ShowJudge);
    window.answer_all();
    let mut form = window.model.judge_form().clone();
    "/d/medical.test.jsonl".clone_into(&mut form.data);
    change(&mut form);
    window.update(Action::Judge(JudgeAction::SetForm(Box::new(form))));
    window.answer_all();
    let mut harness = harness_of([1280.0, 1800.0], window);
    harness.run();
    harness
}

fn judged(change: impl FnOnce(&mut JudgeForm)) -> Harness<'static, Window> {
    let mut harness = screen(change);
    harness.state_mut().set_knob(MEDICAL, 0.7);
    engine_works(&mut harness);
    harness.press("Judge answers");
    engine_works(&mut harness);
    harness
}

/// Presses what is neither a button nor a tab.
fn choose(harness: &mut Harness<'_, Window>, role: Role, name: &str) {
    harness.get_by_role_and_label(role, name).click();
    harness.run();
}

#[test]
fn screen_says_what_is_missing_before_it_can_start() {
    let mut harness = screen(|form| form.data.clear());
    assert_eq!(harness.focused().as_deref(), Some("Set-up"));
    assert!(is_disabled(&harness, "Judge answers"));
    assert!(harness.shows("Name the file with the questions"));
    harness.press("legal.test");
    assert!(!is_disabled(&harness, "Judge answers"));
    assert!(!harness.shows("Name the file with the questions"));
    harness.press("Results");
    assert!(harness.shows("Nothing was judged yet"));
}

#[test]
fn recipes_are_rows_of_numbers_that_can_be_changed() {
    let mut harness = screen(|_| ());
    harness.state_mut().set_knob(MEDICAL, 0.7);
    harness.run();
    assert!(harness.shows("the base model") && harness.shows("the knobs as they are"));
    let value = |harness: &Harness<'_, Window>, name: &str| {
        let field = harness.get_by_role_and_label(Role::SpinButton, name);
        field.accesskit_node().numeric_value()
    };
    assert_eq!(value(&harness, "λ of medical in recipe 2"), Some(0.7));
    assert!(is_disabled(&harness, "Add the knobs as they are"));
    harness.get_by_role_and_label(Role::SpinButton, "λ of medical in recipe 2").focus();
    harness.run();
    harness.key(Key::ArrowUp);
    assert!(!harness.shows("the knobs as they are"), "a changed row follows no longer");
    harness.press("Remove recipe 1");
    harness.press("Add a recipe");
    let form = harness.state().model.judge_form();
    assert_eq!(form.recipes.len(), 2);
    assert_eq!(form.recipes[0], form.recipes[1], "it begins as the last one");
    assert!(harness.shows("Recipes with the same numbers answer once."));
}

#[test]
fn best_of_a_sweep_becomes_a_recipe() {
    let mut harness = screen(|_| ());
    assert!(!harness.shows("Add the best of a sweep"), "nothing was swept");
    harness.state_mut().set_knob(MEDICAL, 0.7);
    let (job, setup) = harness.state_mut().take_prepares()[0].clone();
    let mut model = loaded(&setup);
    model.vectors[1].calibration = Some(Box::new(calibration([Some(-0.75), None, Some(9.0)])));
    harness.state_mut().fact(job, Fact::Ready(Box::new(model)));
    harness.state_mut().finish(job, Outcome::Done);
    harness.run();
    harness.press("Add the best of a sweep");
    assert!(!harness.mentions("for avoidance"), "no knob turns that far");
    harness.press("financial −0.75 for expert");
    let rows = &harness.state().model.judge_form().recipes;
    assert_eq!(rows[2].coefficients, [(FINANCIAL, -0.75)].into());
}

fn calibration(best: [Option<f64>; 3]) -> Calibration {
    Calibration {
        run: uuid::Uuid::nil(),
        created: String::new(),
        model: String::new(),
        base: String::new(),
        dtype: Dtype::Bf16,
        data: String::new(),
        data_fingerprint: String::new(),
        measure: MeasureName::Levels,
        n: 1,
        levels: ["expert", "generic", "avoidance"].map(str::to_owned).to_vec(),
        points: Vec::new(),
        best: best.to_vec(),
    }
}

#[test]
fn instructions_are_shown_where_they_are_wanted() {
    let mut harness = screen(|_| ());
    assert!(!harness.mentions("Answer as a specialist"));
    choose(&mut harness, Role::CheckBox, "Also the base model with an instruction for each level");
    let is_shown = harness.query_all_by(|node| {
        let value = node.value().unwrap_or_default();
        node.role() == Role::MultilineTextInput && value.starts_with("Answer as a specialist")
    });
    assert_eq!(is_shown.count(), 1);
    assert!(harness.mentions("At most 80 answers"), "1 recipe and 3 instructions, 20 queries");
}

#[test]
fn endpoint_is_off_until_it_is_chosen_and_says_what_it_sends() {
    let mut harness = screen(|_| ());
    assert!(!harness.mentions("will be sent to"));
    assert!(!harness.shows("Key"));
    choose(&mut harness, Role::RadioButton, "An OpenAI-compatible endpoint");
    assert!(harness.mentions("will be sent to the address below"));
    assert!(harness.shows("Type the endpoint's address: https://…"));
    harness.get_by_role_and_label(Role::TextInput, "Address").focus();
    harness.run();
    harness.types("http://judge.example.com");
    harness.key(Key::Tab);
    assert!(harness.mentions("will be sent to http://judge.example.com"));
    assert!(harness.mentions("http:// is not encrypted"));
    let (_, spec) = harness.state_mut().take_job(|spec| matches!(spec, JobSpec::FindKey { .. }));
    assert_eq!(spec, JobSpec::FindKey { address: "http://judge.example.com".to_owned() });
}

#[test]
fn typed_key_is_masked_kept_and_gone() {
    let mut harness = screen(|form| {
        form.judge = JudgeChoice::Endpoint;
        "https://judge.example.com".clone_into(&mut form.address);
        "large".clone_into(&mut form.endpoint_model);
    });
    assert!(harness.shows("No key is kept for this address."));
    assert!(is_disabled(&harness, "Keep key"));
    harness.get_by_role_and_label(Role::PasswordInput, "Key").focus();
    harness.run();
    harness.types("sk-very-secret");
    // Long enough for the field to remember it.
    harness.run_steps(50);
    let reads_key = |harness: &Harness<'_, Window>| {
        harness.root().children_recursive().any(|node| {
            let node = node.accesskit_node();
            node.value().is_some_and(|value| value.contains("sk-very"))
        })
    };
    assert!(!reads_key(&harness), "nobody reads it on the screen");
    assert!(harness.shows("Keep the key that is typed, or clear it"));
    harness.press("Keep key");
    let form = harness.state().model.judge_form();
    assert_eq!(form.key, Secret(String::new()));
    engine_works(&mut harness);
    assert!(harness.shows("A key is kept in the system's secret store."));
    assert!(!is_disabled(&harness, "Judge answers"));
    harness.press("Forget key");
    engine_works(&mut harness);
    assert!(harness.shows("No key is kept for this address."));
    harness.get_by_role_and_label(Role::PasswordInput, "Key").focus();
    harness.run();
    harness.run_steps(50);
    harness.keys(egui::Modifiers::COMMAND, Key::Z);
    assert_eq!(harness.state().model.judge_form().key, Secret(String::new()), "not undone");
}

#[test]
fn demo_model_is_called_a_weak_judge() {
    let mut harness = screen(|_| ());
    assert!(harness.mentions("is a weak judge"));
    choose(&mut harness, Role::RadioButton, "Another model on this machine");
    assert!(!harness.mentions("is a weak judge"));
    assert!(harness.shows("Name the model that judges"));
    let harness = judged(|_| ());
    assert!(harness.mentions("is a weak judge"), "beside what it said");
}

#[test]
fn levels_can_be_named_added_and_taken_away() {
    let mut harness = screen(|_| ());
    harness.press("safe, unsafe");
    assert!(is_disabled(&harness, "Remove level 1"), "a judge needs two");
    harness.press("Add a level");
    assert!(harness.shows("Give each level a name"));
    harness.get_by_role_and_label(Role::TextInput, "Name of level 3").focus();
    harness.run();
    harness.types("unsure");
    harness.press("Remove level 2");
    let names: Vec<_> =
        harness.state().model.judge_form().levels.iter().map(|level| level.name.clone()).collect();
    assert_eq!(names, ["safe", "unsure"]);
}

#[test]
fn running_judgement_shows_how_far_it_is_and_can_be_stopped() {
    let mut harness = screen(|_| ());
    harness.press("Judge answers");
    let (job_id, _) = harness.state_mut().take_job(|spec| matches!(spec, JobSpec::Judge(_)));
    let progress = Event::Progress { job_id, stage: Stage::Judging, done: 3, total: 12 };
    harness.state_mut().apply(progress);
    harness.run_steps(3);
    assert!(harness.mentions("Asking the judge…"));
    harness.get_by_role_and_label(Role::Button, "Stop").click();
    harness.run_steps(3);
    assert_eq!(harness.state().cancelled(), [job_id]);
    assert!(harness.shows("Stopping…"));
}

#[test]
fn failed_judgement_is_told_below_its_button() {
    let mut harness = screen(|_| ());
    harness.press("Judge answers");
    let (job, _) = harness.state_mut().take_job(|spec| matches!(spec, JobSpec::Judge(_)));
    harness.state_mut().fail(job, UserError::new("The data have no such levels", "Name others"));
    harness.run();
    assert!(harness.shows("The data have no such levels"));
    assert!(!is_disabled(&harness, "Judge answers"));
}

#[test]
fn results_stand_in_a_table_beside_the_preference_accuracies() {
    let mut harness = judged(|form| (form.prompts, form.compares) = (true, true));
    for words in ["50 %  31–71", "prefers  25 %", "1 against 2", "orders disagree", "instruction"]
    {
        assert!(harness.mentions(words), "{words}");
    }
    assert!(harness.mentions(" 72 %"));
    let chip = "Set the knobs to #a1b2 base";
    harness.press(chip);
    assert_eq!(harness.knob("medical"), 0.0);
    for (button, ending) in
        [("Export CSV…", "csv"), ("Export JSON…", "json"), ("Export Markdown…", "md")]
    {
        harness.press(button);
        assert!(harness.shows("Export judgement"));
        let path = format!("/home/me/Documents/judgement.{ending}");
        assert!(harness.query_all_by_value(&path).next().is_some(), "{path}");
        harness.key(Key::Escape);
    }
}

#[test]
fn answers_are_filtered_and_read_by_the_arrow_keys() {
    let mut harness = judged(|_| ());
    assert!(harness.shows("40 answers"));
    harness.press("2");
    assert!(harness.shows("20 answers"));
    harness.press("generic");
    let first = "Answer to medical-0001 in row 2: generic";
    harness.get_by_role_and_label(Role::Button, first).focus();
    harness.run();
    harness.key(Key::ArrowDown);
    harness.run();
    assert_eq!(harness.focused().as_deref(), Some("Answer to medical-0004 in row 2: generic"));
    assert!(harness.mentions("Answer 3 of row 1."));
    assert!(harness.mentions("generic 60 %"));
    harness.press("unclear");
    assert!(harness.shows("2 answers"));
    assert!(harness.mentions("Answer 6 of row 1."));
}
