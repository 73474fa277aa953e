use egui_kittest::kittest::Queryable as _;
use meav_protocol::{
    Event, Fact, JobId, JobSpec, Outcome, RunState, Stage, TrainRun, TrainSpec, UserError,
};
use meav_ui::{
    Action, LossChoice, MethodChoice, Screen, Settings, TrainAction, TrainField, UiCommand,
};
use uuid::Uuid;

use super::{compare, compare_of, settings};
use crate::hands::harness_of;
use crate::support::Window;
use crate::trainings::{
    MEDICAL_TRAIN, STEPS, begun, estimate, paused, so_far, spec, summary, trained,
};

const SIZE: [f32; 2] = [1280.0, 800.0];

/// The Train screen with the knobs beside it.
fn on_train() -> Settings {
    let mut settings = Settings { screen: Screen::Train, ..settings() };
    (settings.panels.chats, settings.panels.details) = (false, false);
    settings
}

fn act(window: &mut Window, action: TrainAction) {
    window.update(Action::Train(action));
}

fn set_up(settings: Settings) -> Window {
    let mut window = Window::ready_with(settings);
    act(&mut window, TrainAction::AddData(MEDICAL_TRAIN.into()));
    window.answer_all();
    window
}

fn begin(window: &mut Window) -> (JobId, TrainSpec) {
    act(window, TrainAction::Start);
    match window.take_job(|spec| matches!(spec, JobSpec::Train(_))) {
        (job, JobSpec::Train(spec)) => (job, *spec),
        (_, other) => panic!("{other:?}"),
    }
}

/// The list of what was kept. The names of runs are not those of another day.
fn lists(window: &mut Window, runs: &[TrainRun]) {
    window.command(UiCommand::ShowTrain);
    for (job, spec) in window.take_jobs() {
        if spec == JobSpec::ListTrainings {
            window.fact(job, Fact::Trainings(runs.iter().map(summary).collect()));
            window.finish(job, Outcome::Done);
        }
    }
    window.update(Action::FocusTaken);
}

/// Thirty-four steps on, another run waiting.
fn running(settings: Settings) -> Window {
    let mut window = set_up(settings);
    // A minute before the first frame.
    window.now = -60.0;
    let (job, spec) = begin(&mut window);
    let (stage, total) = (Stage::Training, STEPS as u64);
    window.apply(Event::Progress { job_id: job, stage, done: 0, total });
    window.fact(job, Fact::Train(Box::new(so_far(&spec, 34))));
    window.apply(Event::Progress { job_id: job, stage, done: 34, total });
    let mut form = window.model.train_form().clone();
    form.domain = Some("legal".to_owned());
    act(&mut window, TrainAction::SetForm(Box::new(form)));
    begin(&mut window);
    let mut runs = [self::spec(1, "financial"), self::spec(2, "legal")].map(|it| trained(&it));
    (runs[1].state, runs[1].steps) = (RunState::Stopped, runs[1].steps[..31].to_vec());
    runs[1].vector = None;
    lists(&mut window, &runs);
    window
}

fn held() -> Window {
    let mut window = set_up(on_train());
    let (job, spec) = begin(&mut window);
    let (done, total) = (40, STEPS as u64);
    window.fact(job, Fact::Train(Box::new(begun(&spec))));
    window.apply(Event::Progress { job_id: job, stage: Stage::Training, done, total });
    act(&mut window, TrainAction::Pause(job));
    let mut run = paused(&spec, 40);
    // Its name is another one each day.
    run.spec.out = Some("/home/me/meav/runs/7".into());
    run.counts.pairs = 24;
    window.fact(job, Fact::Train(Box::new(run)));
    lists(&mut window, &[trained(&self::spec(1, "financial"))]);
    window
}

/// Finished, with another one laid over it.
fn finished() -> Window {
    let mut window = Window::ready_with(on_train());
    let runs = [spec(1, "medical"), spec(2, "financial")].map(|it| trained(&it));
    lists(&mut window, &runs);
    act(&mut window, TrainAction::Open(Uuid::from_u128(1)));
    act(&mut window, TrainAction::Compare(Uuid::from_u128(2), true));
    act(&mut window, TrainAction::Unfold(false));
    for (job, spec) in window.take_jobs() {
        if let JobSpec::LoadTraining { run } = spec {
            let run = runs.iter().find(|it| it.spec.run == run).expect("it was kept");
            window.fact(job, Fact::Train(Box::new(run.clone())));
        }
        window.finish(job, Outcome::Done);
    }
    window.answer_all();
    lists(&mut window, &runs);
    window
}

/// With an estimate that refuses, and a field that something is wrong with.
fn refused() -> Window {
    let mut window = set_up(on_train());
    let mut form = window.model.train_form().clone();
    form.method = MethodChoice::Full;
    form.loss = LossChoice::Sigmoid;
    act(&mut window, TrainAction::SetForm(Box::new(form)));
    act(&mut window, TrainAction::Estimate);
    let (job, _) = window.take_job(|spec| matches!(spec, JobSpec::EstimateTraining(_)));
    let mut found = estimate();
    found.memory_bytes = 31_000_000_000;
    found.refusal = Some(
        "It would take 31.0 GB of memory, and there are 24.0 GB: a batch of 2 would fit, or LoRA"
            .to_owned(),
    );
    window.fact(job, Fact::TrainEstimate(Box::new(found)));
    window.finish(job, Outcome::Done);
    window
}

fn faulty() -> Window {
    let mut window = Window::ready_with(Settings { screen: Screen::Train, ..settings() });
    act(&mut window, TrainAction::AddData(MEDICAL_TRAIN.into()));
    act(&mut window, TrainAction::AddData("/home/me/broken.jsonl".into()));
    for (job, spec) in window.take_jobs() {
        match &spec {
            JobSpec::InspectData { path } if path.ends_with("broken.jsonl") => {
                window.fail(job, UserError::new("It is not UTF-8", "Save it as UTF-8"));
            }
            _ => window.answer(job, &spec),
        }
    }
    let mut form = window.model.train_form().clone();
    form.set(TrainField::Beta, "0");
    form.set(TrainField::Batch, "four");
    act(&mut window, TrainAction::SetForm(Box::new(form)));
    window
}

#[test]
fn empty_train_screen_looks_as_it_did() {
    compare("train_empty", Window::ready_with(Settings { screen: Screen::Train, ..settings() }));
}

#[test]
fn running_training_looks_as_it_did() {
    compare_of([1280.0, 900.0], "train_running", running(on_train()));
}

#[test]
fn running_training_looks_as_it_did_with_little_room() {
    let settings = Settings { screen: Screen::Train, ..settings() };
    compare("train_running_narrow", running(settings));
}

#[test]
fn paused_training_looks_as_it_did() {
    compare_of(SIZE, "train_paused", held());
}

#[test]
fn finished_training_looks_as_it_did() {
    compare_of(SIZE, "train_finished", finished());
}

#[test]
fn refused_training_looks_as_it_did() {
    compare_of(SIZE, "train_refused", refused());
}

#[test]
fn faults_of_the_training_form_look_as_they_did() {
    compare("train_faults", faulty());
}

#[test]
fn all_settings_of_training_look_as_they_did() {
    let options = egui_kittest::SnapshotOptions::new().threshold(0.6).max_failed_pixels(10);
    let mut harness = harness_of([1280.0, 1100.0], set_up(on_train()));
    harness.run();
    harness.get_by_label("More").click();
    harness.run();
    harness.snapshot_options("train_more", &options);
}

#[test]
fn values_of_a_step_under_the_pointer_look_as_they_did() {
    let options = egui_kittest::SnapshotOptions::new().threshold(0.6).max_failed_pixels(10);
    let mut harness = harness_of(SIZE, finished());
    harness.run();
    let plot = harness.get_by_label_contains("Curve of loss").rect();
    harness.hover_at(plot.center() + egui::vec2(20.0, 0.0));
    harness.run();
    harness.snapshot_options("train_hover", &options);
}
