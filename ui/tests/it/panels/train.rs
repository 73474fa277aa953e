use egui::accesskit::Role;
use egui::{Key, Modifiers};
use egui_kittest::Harness;
use egui_kittest::kittest::Queryable as _;
use meav_protocol::{
    Command, DataReport, Event, Fact, JobId, JobSpec, LoadedModel, MeasureName, MeasureSummary,
    Outcome, RunState, Stage, TrainRun, TrainSpec, UserError,
};
use meav_ui::{Action, Effect, Screen, TrainAction, UiCommand};
use uuid::Uuid;

use crate::hands::{self, Hands as _, engine_works, harness_of, is_disabled};
use crate::support::Window;
use crate::sweeps::data;
use crate::trainings::{STEPS, estimate, paused, so_far, spec, step_fact, summary, trained};
use crate::values::loaded;

/// The Train screen, with room for all of it.
fn screen(window: Window) -> Harness<'static, Window> {
    hands::screen(UiCommand::ShowTrain, 1700.0, window)
}

fn add_demo_data(harness: &mut Harness<'_, Window>, name: &str) {
    harness.press("Add demo data");
    harness.press(name);
    engine_works(harness);
}

fn type_into(harness: &mut Harness<'_, Window>, field: &str, text: &str) {
    harness.get_by_role_and_label(Role::TextInput, field).click();
    harness.run();
    harness.keys(Modifiers::COMMAND, Key::A);
    harness.types(text);
}

fn is_train(spec: &JobSpec) -> bool {
    matches!(spec, JobSpec::Train(_))
}

/// What is measured on PKU-SafeRLHF's files.
fn safety_measures() -> Vec<MeasureSummary> {
    let levels = |names: [&str; 2]| names.map(str::to_owned).to_vec();
    vec![
        MeasureSummary { measure: MeasureName::Safety, levels: levels(["safe", "unsafe"]), n: 24 },
        MeasureSummary {
            measure: MeasureName::Helpfulness,
            levels: levels(["helpful", "unhelpful"]),
            n: 60,
        },
    ]
}

/// The screen with a run that has come to this step.
fn running(last: usize) -> (Harness<'static, Window>, JobId, TrainSpec) {
    let mut harness = screen(Window::ready());
    add_demo_data(&mut harness, "medical.train.jsonl");
    harness.press("Start");
    let (job, JobSpec::Train(spec)) = harness.state_mut().take_job(is_train) else {
        panic!("another job")
    };
    let (done, total) = (last as u64, STEPS as u64);
    let window = harness.state_mut();
    window.apply(Event::Progress { job_id: job, stage: Stage::Training, done, total });
    window.fact(job, Fact::Train(Box::new(so_far(&spec, last))));
    harness.run();
    (harness, job, *spec)
}

fn told(harness: &mut Harness<'_, Window>) -> Vec<Command> {
    let effects = std::mem::take(&mut harness.state_mut().effects).into_iter();
    effects
        .filter_map(|effect| match effect {
            Effect::Send(Command::Start { .. }) => None,
            Effect::Send(command) => Some(command),
            _ => None,
        })
        .collect()
}

#[test]
fn screen_opens_by_tab_and_by_keys_with_the_keyboard_on_the_path_of_data() {
    let mut harness = harness_of([1280.0, 900.0], Window::ready());
    harness.run();
    harness.get_by_role_and_label(Role::Tab, "Train").click();
    engine_works(&mut harness);
    harness.keys(Modifiers::COMMAND, Key::Num4);
    harness.keys(Modifiers::COMMAND, Key::Num7);
    assert_eq!(harness.state_mut().settings().screen, Screen::Train);
    assert_eq!(harness.focused().as_deref(), Some("Path of data"));
}

#[test]
fn start_says_what_is_missing_and_fields_say_what_is_wrong_with_them() {
    let mut harness = screen(Window::ready());
    assert!(is_disabled(&harness, "Start") && is_disabled(&harness, "Estimate"));
    assert!(harness.shows("Add data to train on"));
    add_demo_data(&mut harness, "medical.train.jsonl");
    assert!(!is_disabled(&harness, "Start"));
    assert_eq!(
        harness.get_by_role_and_label(Role::TextInput, "Domain").value().as_deref(),
        Some("medical")
    );
    type_into(&mut harness, "Epochs", "0");
    assert!(harness.shows("From 1 to 1000"), "at the field");
    assert!(harness.shows("Epochs: From 1 to 1000"), "at the button");
    assert!(is_disabled(&harness, "Start"));
    type_into(&mut harness, "Epochs", "2");
    assert!(!is_disabled(&harness, "Start"));
    let domain = |harness: &Harness<'_, Window>| {
        harness.get_by_role_and_label(Role::TextInput, "Domain").value()
    };
    type_into(&mut harness, "Domain", "x");
    harness.key(Key::Backspace);
    assert_eq!(domain(&harness).as_deref(), Some(""));
    assert!(!is_disabled(&harness, "Start"), "it is that of the data again");
    type_into(&mut harness, "Domain", "law");
    harness.press("Leave medical.train.jsonl out");
    assert!(is_disabled(&harness, "Start"));
}

#[test]
fn method_brings_its_learning_rate_and_its_fields() {
    let mut harness = screen(Window::ready());
    let rate = |harness: &Harness<'_, Window>| {
        harness.get_by_role_and_label(Role::TextInput, "Learning rate").value()
    };
    assert_eq!(rate(&harness).as_deref(), Some("5e-4"));
    assert!(harness.shows("Rank") && !harness.shows("Label smoothing"));
    harness.press("All weights");
    assert_eq!(rate(&harness).as_deref(), Some("1e-5"));
    assert!(!harness.shows("Rank"));
    harness.press("DPO sigmoid");
    assert!(harness.shows("Label smoothing"));
    assert!(!harness.shows("Seed"), "rarely used settings are folded");
    harness.get_by_label("More").click();
    harness.run();
    for name in ["Accumulation", "Most steps", "Warm-up", "Clipping", "Patience", "Seed"] {
        assert!(harness.shows(name), "{name}");
    }
}

#[test]
fn level_to_prefer_is_chosen_for_each_file() {
    let mut harness = screen(Window::ready());
    add_demo_data(&mut harness, "medical.train.jsonl");
    add_demo_data(&mut harness, "legal.test.jsonl");
    assert!(harness.mentions("trained on jointly"));
    harness.get_by_label("Preferred level of medical.train.jsonl").click();
    harness.run();
    harness.press("prefer expert");
    harness.press("Start");
    let (_, JobSpec::Train(spec)) = harness.state_mut().take_job(is_train) else {
        panic!("another job")
    };
    let preferred: Vec<_> = spec.data.iter().map(|it| it.prefer.as_deref()).collect();
    assert_eq!(preferred, [Some("expert"), None]);
}

#[test]
fn estimate_is_told_and_its_refusal_leaves_the_start_to_the_engine() {
    let mut harness = screen(Window::ready());
    add_demo_data(&mut harness, "medical.train.jsonl");
    harness.press("Estimate");
    engine_works(&mut harness);
    for words in ["about 12:34", "1.9 GB of 24.0 GB", "236", "2.44 M weights"] {
        assert!(harness.mentions(words), "{words}");
    }
    type_into(&mut harness, "Batch", "64");
    assert!(harness.mentions("The form has changed since the estimate"));
    harness.press("Estimate");
    let is_estimate = |spec: &JobSpec| matches!(spec, JobSpec::EstimateTraining(_));
    let (job, _) = harness.state_mut().take_job(is_estimate);
    let mut refused = estimate();
    refused.refusal = Some("Too little memory: a batch of 8 would fit".to_owned());
    harness.state_mut().fact(job, Fact::TrainEstimate(Box::new(refused)));
    harness.state_mut().finish(job, Outcome::Done);
    harness.run();
    assert!(harness.shows("Too little memory: a batch of 8 would fit"));
    assert!(!is_disabled(&harness, "Start") && !is_disabled(&harness, "Estimate"));
}

#[test]
fn running_run_is_paused_talked_to_and_ended() {
    let (mut harness, job, spec) = running(30);
    assert!(harness.mentions("step 30 of 60 · "));
    assert!(!harness.shows("Chat with it"));
    told(&mut harness);
    harness.press("Pause");
    assert_eq!(told(&mut harness), [Command::Pause { job_id: job }]);
    assert!(harness.mentions("pausing…"));
    harness.state_mut().fact(job, Fact::Train(Box::new(paused(&spec, 31))));
    harness.run();
    assert!(harness.shows("step 31 of 60 · paused"));
    harness.press("Chat with it");
    assert_eq!(harness.state_mut().settings().screen, Screen::Chat);
    engine_works(&mut harness);
    assert_eq!(harness.knob("half-trained"), 1.0);
    harness.keys(Modifiers::COMMAND, Key::Num7);
    told(&mut harness);
    harness.press("Go on");
    harness.press("Stop and keep");
    let expected = [Command::GoOn { job_id: job }, Command::WrapUp { job_id: job }];
    assert_eq!(told(&mut harness), expected);
    assert!(is_disabled(&harness, "Stop and keep"));
    harness.press("Cancel");
    assert_eq!(told(&mut harness), [Command::Cancel { job_id: job }]);
}

#[test]
fn form_makes_room_for_the_curves_and_comes_back() {
    let (mut harness, ..) = running(3);
    assert!(!harness.shows("Epochs"));
    harness.get_by_label("New vector").click();
    harness.run();
    assert!(harness.shows("Epochs"));
    harness.press("Add to the queue");
    assert!(harness.shows("waiting for its turn"));
}

#[test]
fn plots_say_their_values_and_arrow_keys_lead_from_step_to_step() {
    let (mut harness, job, spec) = running(30);
    for name in ["loss", "rewards", "accuracy", "gradient norm", "learning rate", "speed"] {
        assert!(harness.mentions(&format!("Curve of {name}, step 30: ")), "{name}");
    }
    harness.get_by_label_contains("Curve of rewards").focus();
    harness.run();
    harness.key(Key::ArrowLeft);
    harness.key(Key::ArrowLeft);
    assert!(harness.mentions("Curve of rewards, step 29: chosen "));
    assert!(harness.mentions("Curve of loss, step 29: step "), "in all of them");
    harness.key(Key::ArrowRight);
    assert!(harness.mentions("Curve of loss, step 30: "));
    harness.state_mut().fact(job, step_fact(&spec, 31));
    harness.run();
    harness.key(Key::ArrowRight);
    assert!(harness.mentions("Curve of loss, step 31: "));
}

#[test]
fn notes_are_shown_when_they_apply() {
    let (mut harness, job, spec) = running(3);
    assert!(!harness.mentions("that is normal"));
    let mut run = so_far(&spec, 30);
    run.counts.pairs = 24;
    harness.state_mut().fact(job, Fact::Train(Box::new(run)));
    harness.run();
    assert!(harness.mentions("Both rewards fall while the margin grows: that is normal"));
    assert!(harness.mentions("Only 24 pairs"));
}

#[test]
fn finished_run_leads_to_knobs_and_sweep() {
    let (mut harness, job, spec) = running(59);
    harness.state_mut().fact(job, Fact::Train(Box::new(trained(&spec))));
    harness.state_mut().finish(job, Outcome::Done);
    engine_works(&mut harness);
    assert!(harness.mentions("vector.safetensors"), "where the file lies");
    harness.press("Add to knobs");
    engine_works(&mut harness);
    assert!(harness.state_mut().settings().knobs.len() == 3);
    harness.press("Sweep it");
    engine_works(&mut harness);
    assert_eq!(harness.state_mut().settings().screen, Screen::Sweep);
    assert!(harness.shows("medical.test.jsonl"));
    assert!(!is_disabled(&harness, "Start"));
}

#[test]
fn earlier_runs_are_ticked_resumed_and_deleted() {
    let mut runs = [spec(1, "medical"), spec(2, "legal")].map(|it| trained(&it));
    runs[1] = so_far(&spec(2, "legal"), 34);
    let mut window = Window::ready();
    window.command(UiCommand::ShowTrain);
    for (job, spec) in window.take_jobs() {
        if spec == JobSpec::ListTrainings {
            window.fact(job, Fact::Trainings(runs.iter().map(summary).collect()));
        }
        window.finish(job, Outcome::Done);
    }
    window.update(Action::Train(TrainAction::Open(Uuid::from_u128(2))));
    let (job, _) = window.take_job(|spec| matches!(spec, JobSpec::LoadTraining { .. }));
    window.fact(job, Fact::Train(Box::new(runs[1].clone())));
    window.finish(job, Outcome::Done);
    let mut harness = harness_of([1280.0, 1700.0], window);
    harness.run();
    assert!(harness.mentions("Training of legal was cut off at step 34 of 60"));
    harness.get_by_label("Lay over: medical, 2026-11-20").click();
    harness.run();
    let is_load = |spec: &JobSpec| matches!(spec, JobSpec::LoadTraining { .. });
    let (job, _) = harness.state_mut().take_job(is_load);
    harness.state_mut().fact(job, Fact::Train(Box::new(runs[0].clone())));
    harness.state_mut().finish(job, Outcome::Done);
    harness.run();
    assert!(harness.mentions("2 dashed: medical"));
    assert!(harness.mentions("loss of 2"), "its values are told");
    harness.press("More for medical, 2026-11-20");
    harness.press("Delete…");
    assert!(harness.mentions("Its folder stays where it is"));
    harness.press("Delete");
    let run = Uuid::from_u128(1);
    harness.state_mut().take_job(|it| *it == JobSpec::DeleteTraining { run });
    resume_the_second(&mut harness);
}

fn resume_the_second(harness: &mut Harness<'_, Window>) {
    harness.press("Resume: legal, 2026-11-20");
    let (_, JobSpec::Train(resumed)) = harness.state_mut().take_job(is_train) else {
        panic!("another job")
    };
    assert!(resumed.resume && resumed.run == Uuid::from_u128(2));
}

#[test]
fn closing_while_it_trains_says_that_it_can_be_resumed() {
    let (mut harness, job, _) = running(30);
    harness.state_mut().update(Action::CloseRequested);
    harness.run();
    assert!(harness.mentions("Training is kept as it is after its last whole step"));
    assert!(!harness.mentions("What waits for its turn"));
    harness.press("Back");
    harness.get_by_label("New vector").click();
    harness.run();
    type_into(&mut harness, "Domain", "law");
    harness.press("Add to the queue");
    harness.state_mut().update(Action::CloseRequested);
    harness.run();
    assert!(harness.mentions("What waits for its turn is kept too: law."));
    harness.press("Stop it and quit");
    let told = told(&mut harness);
    assert!(!told.contains(&Command::Cancel { job_id: job }), "{told:?}");
}

#[test]
fn what_it_does_before_it_trains_is_said_without_a_share() {
    let mut harness = screen(Window::ready());
    add_demo_data(&mut harness, "medical.train.jsonl");
    harness.press("Start");
    let (job, JobSpec::Train(spec)) = harness.state_mut().take_job(is_train) else {
        panic!("another job")
    };
    let goes = |harness: &mut Harness<'_, Window>, stage, done| {
        harness.state_mut().apply(Event::Progress { job_id: job, stage, done, total: 60 });
        harness.state_mut().now += 5.0;
        harness.state_mut().apply(Event::Progress {
            job_id: job,
            stage,
            done: done + 6,
            total: 60,
        });
        harness.run();
    };
    goes(&mut harness, Stage::Loading, 30);
    assert!(harness.shows("Training · Reading the model…"), "in the status bar");
    assert!(!harness.mentions(" left") && !harness.mentions(" %"));
    harness.state_mut().fact(job, Fact::Train(Box::new(so_far(&spec, 30))));
    goes(&mut harness, Stage::Training, 30);
    assert!(harness.mentions("Training 60 %"), "in the status bar");
    // Where it waits for another run after a pause, it does not seem to train.
    harness.state_mut().fact(job, Fact::Train(Box::new(paused(&spec, 36))));
    harness.run();
    harness.press("Go on");
    assert!(harness.shows("step 36 of 60 · waiting for its turn"));
}

#[test]
fn run_that_is_refused_brings_the_form_back_and_one_that_was_lost_is_queued_again() {
    let (mut harness, job, _) = running(30);
    harness.get_by_label("New vector").click();
    harness.run();
    harness.press("Add to the queue");
    let (refused, _) = harness.state_mut().take_job(is_train);
    harness.state_mut().fail(refused, UserError::new("The disk is full", "Make room"));
    harness.run();
    assert!(harness.shows("Epochs") && !harness.mentions("was queued"));
    engine_works(&mut harness);
    harness.press("Add to the queue");
    let (lost, _) = harness.state_mut().take_job(is_train);
    for job in [job, lost] {
        harness.state_mut().fail(job, UserError::new("The engine stopped", ""));
    }
    harness.state_mut().apply(crate::values::lost("it was killed"));
    harness.run();
    assert!(harness.shows("Training of medical was queued, and has not begun."));
    harness.press("Start it: medical");
    harness.state_mut().take_job(is_train);
    harness.run();
    assert!(!harness.mentions("was queued"));
}

#[test]
fn pause_before_the_first_step_is_a_pause() {
    let mut harness = screen(Window::ready());
    add_demo_data(&mut harness, "medical.train.jsonl");
    harness.press("Start");
    let (job, _) = harness.state_mut().take_job(is_train);
    let loading = Event::Progress { job_id: job, stage: Stage::Loading, done: 3, total: 9 };
    harness.state_mut().apply(loading);
    harness.run();
    harness.press("Pause");
    assert!(harness.shows("paused before its first step"));
    harness.press("Go on");
    assert_eq!(told(&mut harness).last(), Some(&Command::GoOn { job_id: job }));
}

#[test]
fn form_says_what_is_trained_and_what_is_preferred_to_what() {
    let mut window = Window::ready();
    window.command(UiCommand::ShowTrain);
    window.answer_all();
    let files = ["/a/safety.train.jsonl", "/b/safety.train.jsonl"];
    for file in files {
        window.update(Action::Train(TrainAction::AddData(file.into())));
    }
    for (job, spec) in window.take_jobs() {
        if let JobSpec::InspectData { path } = &spec {
            let report = DataReport { measures: safety_measures(), ..data(path) };
            window.fact(job, Fact::Data(Box::new(report)));
        }
        window.finish(job, Outcome::Done);
    }
    let mut harness = harness_of([1280.0, 1700.0], window);
    harness.run();
    assert!(harness.shows("SmolLM2-135M-Instruct"));
    assert!(harness.mentions("where the knobs stand does not matter"));
    // Two files of one name have a menu each.
    let menus = harness.get_all_by_label("Preferred level of safety.train.jsonl");
    assert_eq!(menus.count(), files.len());
    harness.get_all_by_label("Preferred level of safety.train.jsonl").nth(1).unwrap().click();
    harness.run();
    assert!(harness.shows("the safe response over the unsafe one"));
    harness.press("prefer safe");
    let preferred: Vec<_> = harness.state().model.train_form().data.iter().collect();
    assert_eq!(preferred[0].prefer, None);
    assert_eq!(preferred[1].prefer.as_deref(), Some("safe"));
}

#[test]
fn parts_are_those_of_the_model() {
    for (family, there, not_there) in
        [("llama", "q_proj", "qkv_proj"), ("phi3", "qkv_proj", "q_proj")]
    {
        let mut window = Window::ready();
        window.set_knob(crate::support::MEDICAL, 0.5);
        let (job, setup) = window.take_prepares().remove(0);
        let held = LoadedModel { family: family.to_owned(), ..loaded(&setup) };
        window.fact(job, Fact::Ready(Box::new(held)));
        window.finish(job, Outcome::Done);
        let mut harness = screen(window);
        harness.get_by_label("More").click();
        harness.run();
        assert!(harness.shows(there) && !harness.shows(not_there), "{family}");
    }
}

#[test]
fn listed_runs_say_where_they_run_and_what_they_go_on_from() {
    let mut runs = [1, 2, 3].map(|run| so_far(&spec(run, "medical"), 34));
    runs[1] = so_far(&spec(2, "legal"), 5);
    let mut listed = runs.each_ref().map(summary);
    listed[0].is_resumable = false;
    listed[2].state = RunState::Stopped;
    let mut window = Window::ready();
    window.command(UiCommand::ShowTrain);
    for (job, spec) in window.take_jobs() {
        if spec == JobSpec::ListTrainings {
            window.fact(job, Fact::Trainings(listed.to_vec()));
        }
        window.finish(job, Outcome::Done);
    }
    window.update(Action::Train(TrainAction::Open(Uuid::from_u128(2))));
    let (job, _) = window.take_job(|spec| matches!(spec, JobSpec::LoadTraining { .. }));
    window.fact(job, Fact::Train(Box::new(runs[1].clone())));
    window.finish(job, Outcome::Done);
    let mut harness = harness_of([1280.0, 1700.0], window);
    harness.run();
    for words in ["running elsewhere", "cut off", "stopped"] {
        assert!(harness.shows(words), "{words}");
    }
    assert!(harness.mentions("Training of legal was cut off at step 5 of 60"));
    assert!(harness.shows("from its beginning"));
    resume_the_second(&mut harness);
}

#[test]
fn run_that_has_diverged_is_not_resumed_but_says_what_to_do() {
    let (mut harness, job, spec) = running(30);
    let run = TrainRun { state: RunState::Stopped, diverged: true, ..so_far(&spec, 30) };
    harness.state_mut().fact(job, Fact::Train(Box::new(run)));
    harness.state_mut().fail(job, UserError::new("The training has diverged", ""));
    harness.run();
    assert!(harness.mentions("a third of the learning rate, 1.7e-4"));
    assert!(!harness.shows("Resume"));
}
