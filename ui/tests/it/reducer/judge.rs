use meav_protocol::{
    Dtype, ExportTarget, Fact, InstructionTurn, JobId, JobSpec, Judge, JudgeSpec, Method, Outcome,
    Secret, Setup, UserError,
};
use meav_ui::{
    Action, AnswerFilter, DataAction, DialogAction, Effect, JudgeAction, JudgeChoice, JudgeForm,
    JudgePath, JudgeRow, JudgeTab, LevelFilter, PathPurpose, Screen, UiCommand,
};

use crate::data_values::judge_report;
use crate::hands::seen;
use crate::support::{FINANCIAL, MEDICAL, Window};

const ADDRESS: &str = "https://judge.example.com/v1";

fn act(window: &mut Window, action: JudgeAction) {
    window.update(Action::Judge(action));
}

fn fill(window: &mut Window, change: impl FnOnce(&mut JudgeForm)) {
    let mut form = window.model.judge_form().clone();
    change(&mut form);
    act(window, JudgeAction::SetForm(Box::new(form)));
}

/// The Judge screen with all that is wanted.
fn filled(change: impl FnOnce(&mut JudgeForm)) -> Window {
    let mut window = Window::ready();
    window.command(UiCommand::ShowJudge);
    window.answer_all();
    fill(&mut window, |form| {
        "/d/medical.test.jsonl".clone_into(&mut form.data);
        change(form);
    });
    window.effects.clear();
    window
}

fn is_judging(spec: &JobSpec) -> bool {
    matches!(spec, JobSpec::Judge(_))
}

fn is_about_keys(spec: &JobSpec) -> bool {
    matches!(spec, JobSpec::FindKey { .. } | JobSpec::KeepKey { .. })
}

#[track_caller]
fn start(window: &mut Window) -> (JobId, JudgeSpec) {
    act(window, JudgeAction::Start);
    match window.take_job(is_judging) {
        (job, JobSpec::Judge(spec)) => (job, *spec),
        (_, other) => panic!("{other:?}"),
    }
}

fn results(window: &mut Window) -> String {
    act(window, JudgeAction::Show(JudgeTab::Results));
    seen(window)
}

/// What is said of the key.
#[track_caller]
fn check_key(window: &mut Window, expected: Option<bool>) {
    let text = match expected {
        Some(true) => "A key is kept in the system's secret store.",
        Some(false) => "No key is kept for this address.",
        None => "The key goes to the system's secret store and nowhere else.",
    };
    let seen = seen(window);
    assert!(seen.contains(text), "{seen}");
}

#[track_caller]
fn check_listed(window: &mut Window, expected: usize) {
    let seen = results(window);
    let text = if expected == 0 {
        "No answer is like this.".to_owned()
    } else {
        format!("\n{expected} answers\n")
    };
    assert!(seen.contains(&text), "{seen}");
}

fn endpoint() -> Window {
    let mut window = filled(|form| ADDRESS.clone_into(&mut form.address));
    fill(&mut window, |form| {
        form.judge = JudgeChoice::Endpoint;
        " large ".clone_into(&mut form.endpoint_model);
    });
    window
}

#[test]
fn judgement_asks_for_what_was_filled_in() {
    let mut window = filled(|form| {
        (form.sample, form.seed, form.max_tokens) = (12, 5, 64);
        form.temperature = 0.5;
        form.compares = true;
    });
    window.set_knob(MEDICAL, 0.7);
    window.set_knob(FINANCIAL, -0.3);
    let (_, spec) = start(&mut window);
    assert_eq!(spec.recipes, [vec![0.0, 0.0], vec![0.7, -0.3]]);
    let files: Vec<_> = spec.setup.vectors.iter().map(|term| term.file.clone()).collect();
    assert_eq!(files, ["medical", "financial"].map(std::path::PathBuf::from));
    assert_eq!(spec.prompting, None);
    assert_eq!(spec.data, std::path::Path::new("/d/medical.test.jsonl"));
    assert_eq!((spec.sample, spec.max_tokens, spec.compares), (12, 64, true));
    assert_eq!((spec.sampling.seed, spec.sampling.temperature), (5, 0.5));
    let names: Vec<_> = spec.rubric.levels.iter().map(|level| level.name.as_str()).collect();
    assert_eq!(names, ["expert", "generic", "avoidance"]);
    assert!(spec.rubric.levels.iter().all(|level| !level.description.is_empty()));
    let bare = Setup {
        model: "demo".into(),
        dtype: Dtype::Bf16,
        method: Method::default(),
        vectors: Vec::new(),
    };
    assert_eq!(spec.judge, Judge::Local(bare));
}

#[test]
fn recipes_are_judged_once_each_and_follow_the_knobs_until_they_are_changed() {
    let mut window = filled(|_| ());
    let (job, spec) = start(&mut window);
    assert_eq!(spec.recipes, [vec![0.0, 0.0]], "the knobs are at 0");
    window.finish(job, Outcome::Cancelled);
    let coefficients = [(FINANCIAL, 0.25)].into();
    fill(&mut window, |form| {
        form.recipes.push(JudgeRow { follows_knobs: false, coefficients });
    });
    window.set_knob(MEDICAL, -1.0);
    let (_, spec) = start(&mut window);
    assert_eq!(spec.recipes, [vec![0.0, 0.0], vec![-1.0, 0.0], vec![0.0, 0.25]]);
}

#[test]
fn instructions_are_asked_for_where_they_are_wanted() {
    let mut window = filled(|form| {
        form.prompts = true;
        form.turn = InstructionTurn::User;
        form.levels[0].instruction = " Be brief. ".to_owned();
        form.recipes.clear();
    });
    let (_, spec) = start(&mut window);
    let prompting = spec.prompting.expect("it is wanted");
    assert_eq!(prompting.turn, InstructionTurn::User);
    assert_eq!(prompting.instructions["expert"], "Be brief.");
    assert_eq!(prompting.instructions.len(), 3);
    assert_eq!(spec.recipes, [] as [Vec<f64>; 0]);
}

#[test]
fn judge_is_who_was_chosen() {
    let mut window = filled(|form| {
        form.judge = JudgeChoice::OtherModel;
        form.model = "~/models/large".to_owned();
    });
    let (_, spec) = start(&mut window);
    let Judge::Local(setup) = spec.judge else { panic!("{:?}", spec.judge) };
    assert_eq!(setup.model, std::path::Path::new("/home/me/models/large"));
    let (_, spec) = start(&mut endpoint());
    let (address, model) = (ADDRESS.to_owned(), "large".to_owned());
    assert_eq!(spec.judge, Judge::Endpoint { address, model });
}

#[test]
fn nothing_starts_while_something_is_missing() {
    let changes: [fn(&mut JudgeForm); 11] = [
        |form| " ".clone_into(&mut form.data),
        |form| form.recipes.clear(),
        |form| form.judge = JudgeChoice::OtherModel,
        |form| form.judge = JudgeChoice::Endpoint,
        |form| {
            form.judge = JudgeChoice::Endpoint;
            ADDRESS.clone_into(&mut form.address);
        },
        |form| {
            form.judge = JudgeChoice::Endpoint;
            (form.address, form.endpoint_model) = (ADDRESS.to_owned(), "m".to_owned());
            form.key = Secret("sk".to_owned());
        },
        |form| form.instructions.clear(),
        |form| form.levels.truncate(1),
        |form| form.levels[1].name.clear(),
        |form| form.levels[1].name = "expert ".to_owned(),
        |form| {
            form.prompts = true;
            form.levels[2].instruction.clear();
        },
    ];
    for (index, change) in changes.into_iter().enumerate() {
        let mut window = filled(change);
        act(&mut window, JudgeAction::Start);
        window.command(UiCommand::StartJudging);
        let jobs = window.take_jobs();
        assert!(!jobs.iter().any(|(_, spec)| is_judging(spec)), "{index}: {jobs:?}");
    }
    start(&mut filled(|_| ()));
}

#[test]
fn one_judgement_runs_at_a_time_and_can_be_stopped() {
    let mut window = filled(|_| ());
    let (job, _) = start(&mut window);
    act(&mut window, JudgeAction::Start);
    assert_eq!(window.take_jobs(), []);
    window.update(Action::CloseRequested);
    assert!(!window.effects.contains(&Effect::Quit), "something would be lost");
    window.update(Action::Dialog(DialogAction::Close));
    window.update(Action::CancelJob(job));
    assert_eq!(window.cancelled(), [job]);
    window.finish(job, Outcome::Cancelled);
    start(&mut window);
}

#[test]
fn failed_judgement_keeps_the_last_one_and_says_why_on_the_screen() {
    let mut window = filled(|_| ());
    let (job, spec) = start(&mut window);
    window.answer(job, &JobSpec::Judge(Box::new(spec)));
    assert!(results(&mut window).contains("Judged by SmolLM2"));
    let (job, _) = start(&mut window);
    window.fail(job, UserError::new("The judge does not answer", "Check the address"));
    let seen = results(&mut window);
    assert_eq!(seen.matches("The judge does not answer").count(), 1, "{seen}");
    assert!(seen.contains("Judged by SmolLM2"), "{seen}");
    start(&mut window);
    assert!(!results(&mut window).contains("The judge does not answer"));
}

#[test]
fn key_is_forgotten_by_the_window_once_it_is_kept() {
    let mut window = endpoint();
    window.answer_all();
    fill(&mut window, |form| form.key = Secret("sk-very-secret".to_owned()));
    act(&mut window, JudgeAction::KeepKey);
    let (job, spec) = window.take_job(is_about_keys);
    let key = Some(Secret("sk-very-secret".to_owned()));
    assert_eq!(spec, JobSpec::KeepKey { address: ADDRESS.to_owned(), key });
    assert_eq!(window.model.judge_form().key, Secret(String::new()));
    window.answer(job, &spec);
    check_key(&mut window, Some(true));
    assert!(!format!("{:?}", window.model).contains("sk-very"), "no log can have it");
    act(&mut window, JudgeAction::ForgetKey);
    let (job, spec) = window.take_job(is_about_keys);
    assert_eq!(spec, JobSpec::KeepKey { address: ADDRESS.to_owned(), key: None });
    window.answer(job, &spec);
    check_key(&mut window, Some(false));
}

#[test]
fn key_that_was_not_kept_goes_with_the_endpoint() {
    let mut window = endpoint();
    fill(&mut window, |form| form.key = Secret("sk-very-secret".to_owned()));
    fill(&mut window, |form| form.judge = JudgeChoice::SameModel);
    assert_eq!(window.model.judge_form().key, Secret(String::new()));
}

#[test]
fn key_that_could_not_be_kept_is_told_beside_its_field() {
    let mut window = endpoint();
    window.answer_all();
    fill(&mut window, |form| form.key = Secret("sk-very-secret".to_owned()));
    act(&mut window, JudgeAction::KeepKey);
    let (job, spec) = window.take_job(is_about_keys);
    assert!(!format!("{spec:?}").contains("sk-very"), "{spec:?}");
    window.fail(job, UserError::new("The store is locked", "Unlock it"));
    assert!(seen(&mut window).contains("The store is locked"));
    assert_eq!(window.model.judge_form().key, Secret(String::new()));
    act(&mut window, JudgeAction::KeepKey);
    assert_eq!(window.take_jobs(), [], "there is nothing to keep any more");
}

#[test]
fn store_is_asked_once_for_each_address_and_only_for_an_endpoint() {
    let mut window = filled(|form| ADDRESS.clone_into(&mut form.address));
    assert_eq!(window.take_jobs(), []);
    fill(&mut window, |form| form.judge = JudgeChoice::Endpoint);
    let (job, spec) = window.take_job(is_about_keys);
    assert_eq!(spec, JobSpec::FindKey { address: ADDRESS.to_owned() });
    act(&mut window, JudgeAction::FindKey);
    assert_eq!(window.take_jobs(), [], "it is being asked");
    fill(&mut window, |form| "https://other.example.com".clone_into(&mut form.address));
    act(&mut window, JudgeAction::FindKey);
    let (other, spec) = window.take_job(is_about_keys);
    let is_kept = true;
    window.fact(job, Fact::Key { address: ADDRESS.to_owned(), is_kept });
    window.finish(job, Outcome::Done);
    assert!(!seen(&mut window).contains("A key is kept"), "it is about another address");
    window.answer(other, &spec);
    check_key(&mut window, Some(false));
    fill(&mut window, |form| ADDRESS.clone_into(&mut form.address));
    check_key(&mut window, None);
}

#[test]
fn judgement_is_exported_to_the_path_that_was_asked_for() {
    let mut window = filled(|_| ());
    window.command(UiCommand::ExportJudgement);
    window.update(Action::Dialog(DialogAction::Accept));
    assert!(!window.take_jobs().iter().any(|(_, spec)| matches!(spec, JobSpec::Judge(_))));
    let (job, spec) = start(&mut window);
    let report = judge_report(&spec);
    window.answer(job, &JobSpec::Judge(Box::new(spec)));
    act(&mut window, JudgeAction::Export("md"));
    window.update(Action::Dialog(DialogAction::Accept));
    let (_, spec) = window.take_job(|spec| matches!(spec, JobSpec::ExportJudgement { .. }));
    let out = ExportTarget { path: "/home/me/Documents/judgement.md".into(), replace: false };
    assert_eq!(spec, JobSpec::ExportJudgement { report: Box::new(report), out });
}

#[test]
fn filters_and_choices_stay_within_the_answers_that_there_are() {
    let mut window = filled(|_| ());
    window.set_knob(MEDICAL, 0.5);
    let (job, spec) = start(&mut window);
    window.answer(job, &JobSpec::Judge(Box::new(spec)));
    check_listed(&mut window, 40);
    act(&mut window, JudgeAction::SetFilter(AnswerFilter { row: Some(1), ..Default::default() }));
    check_listed(&mut window, 20);
    let level = LevelFilter::Unclear;
    act(&mut window, JudgeAction::SetFilter(AnswerFilter { row: Some(1), level }));
    check_listed(&mut window, 2);
    act(&mut window, JudgeAction::SelectAnswer(7));
    act(&mut window, JudgeAction::SetFilter(AnswerFilter { row: Some(9), level }));
    check_listed(&mut window, 0);
}

#[test]
fn paths_from_the_systems_dialog_go_into_their_fields() {
    let mut window = filled(|_| ());
    for (path, folder) in [(JudgePath::Data, false), (JudgePath::Model, true)] {
        act(&mut window, JudgeAction::Browse { path, folder });
        let asks = |effect: &Effect| matches!(effect, Effect::Pick(it) if it.purpose == PathPurpose::Judge(path));
        assert!(window.effects.iter().any(asks));
        let picked = vec![format!("/picked/{path:?}").into()];
        window.update(Action::Picked(PathPurpose::Judge(path), picked));
    }
    let form = window.model.judge_form();
    assert_eq!((form.data.as_str(), form.model.as_str()), ("/picked/Data", "/picked/Model"));
    window.update(Action::Picked(PathPurpose::Judge(JudgePath::Data), Vec::new()));
    assert_eq!(window.model.judge_form().data, "/picked/Data");
}

#[test]
fn shown_data_can_be_taken_to_the_judge() {
    let mut window = Window::ready();
    window.update(Action::Data(DataAction::Open("/d/legal.jsonl".into())));
    window.answer_all();
    window.update(Action::Data(DataAction::Judge));
    assert_eq!(window.settings().screen, Screen::Judge);
    assert_eq!(window.model.judge_form().data, "/d/legal.jsonl");
}
