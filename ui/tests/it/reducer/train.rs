use meav_protocol::{
    Command, DataReport, Event, Fact, JobId, JobSpec, Outcome, PreferenceLoss, RunState, Stage,
    TrainMethod, TrainRun, TrainSpec, UserError,
};
use meav_ui::{
    Action, DialogAction, Effect, LossChoice, MethodChoice, PathPurpose, Screen, TrainAction,
    TrainField, TrainForm, UiCommand,
};
use uuid::Uuid;

use crate::support::Window;
use crate::sweeps::data;
use crate::trainings::{
    MEDICAL_TRAIN, STEPS, begun, estimate, paused, so_far, spec, step_fact, summary, trained,
    validation,
};

pub(super) fn act(window: &mut Window, action: TrainAction) {
    window.update(Action::Train(action));
}

/// The form as it is, changed.
pub(super) fn fill(window: &mut Window, change: impl FnOnce(&mut TrainForm)) {
    let mut form = window.model.train_form().clone();
    change(&mut form);
    act(window, TrainAction::SetForm(Box::new(form)));
}

/// The screen with data chosen.
pub(super) fn set_up() -> Window {
    let mut window = Window::ready();
    window.command(UiCommand::ShowTrain);
    act(&mut window, TrainAction::AddData(MEDICAL_TRAIN.into()));
    window.answer_all();
    window
}

/// Whether a message on the screen has these words.
pub(super) fn says(window: &Window, words: &str) -> bool {
    window.model.messages().iter().any(|it| it.contains(words))
}

/// The lines of the tray, of whoever has the jobs of the window.
pub(super) fn jobs_of(window: &mut Window) -> Vec<String> {
    window.tick();
    let lines = window.effects.iter().rev().find_map(|effect| match effect {
        Effect::ShowJobs(lines) => Some(lines.clone()),
        _ => None,
    });
    lines.unwrap_or_default()
}

pub(super) fn is_train(spec: &JobSpec) -> bool {
    matches!(spec, JobSpec::Train(_))
}

pub(super) fn take_train(window: &mut Window) -> (JobId, TrainSpec) {
    match window.take_job(is_train) {
        (job, JobSpec::Train(spec)) => (job, *spec),
        (_, other) => panic!("{other:?}"),
    }
}

pub(super) fn start(window: &mut Window) -> (JobId, TrainSpec) {
    act(window, TrainAction::Start);
    take_train(window)
}

/// A run that has come to this step.
pub(super) fn running(last: usize) -> (Window, JobId, TrainSpec) {
    let mut window = set_up();
    let (job, spec) = start(&mut window);
    let (done, total) = (last as u64, STEPS as u64);
    window.apply(Event::Progress { job_id: job, stage: Stage::Training, done, total });
    window.fact(job, Fact::Train(Box::new(so_far(&spec, last))));
    (window, job, spec)
}

/// What the engine was told, beside starts.
pub(super) fn told(window: &mut Window) -> Vec<Command> {
    let is_start = |effect: &Effect| matches!(effect, Effect::Send(Command::Start { .. }));
    let told = window.effects.extract_if(.., |effect| !is_start(effect));
    told.filter_map(|effect| match effect {
        Effect::Send(command) => Some(command),
        _ => None,
    })
    .collect()
}

/// Steps that are known of the run that is shown.
pub(super) fn steps(window: &Window) -> Vec<usize> {
    let run = window.model.shown_training();
    run.map(|run| run.steps.iter().map(|it| it.step).collect()).unwrap_or_default()
}

pub(super) fn lists(window: &mut Window, runs: &[TrainRun]) {
    let (job, _) = window.take_job(|spec| *spec == JobSpec::ListTrainings);
    window.fact(job, Fact::Trainings(runs.iter().map(summary).collect()));
    window.finish(job, Outcome::Done);
}

pub(super) fn lists_nothing(window: &mut Window) {
    window.command(UiCommand::ShowTrain);
    lists(window, &[]);
}

/// Answers what was asked for from these runs.
pub(super) fn loads(window: &mut Window, runs: &[TrainRun]) {
    let (job, spec) = window.take_job(|spec| matches!(spec, JobSpec::LoadTraining { .. }));
    let JobSpec::LoadTraining { run } = spec else { panic!("{spec:?}") };
    let run = runs.iter().find(|it| it.spec.run == run).expect("it was kept");
    window.fact(job, Fact::Train(Box::new(run.clone())));
    window.finish(job, Outcome::Done);
}

#[test]
fn screen_asks_for_the_runs_and_for_the_demo_data() {
    let mut window = Window::ready();
    window.command(UiCommand::ShowTrain);
    let specs: Vec<_> = window.take_jobs().into_iter().map(|(_, spec)| spec).collect();
    assert_eq!(specs, [JobSpec::ListTrainings, JobSpec::ListDemoData]);
    assert_eq!(window.settings().screen, Screen::Train);
}

#[test]
fn run_is_asked_for_as_the_form_says() {
    let mut window = set_up();
    let (_, plain) = start(&mut window);
    assert_eq!((plain.domain.as_str(), plain.out, plain.resume), ("medical", None, false));
    assert_eq!(plain.settings, meav_protocol::TrainSettings::default());

    let mut window = set_up();
    fill(&mut window, |form| {
        (form.method, form.loss) = (MethodChoice::Full, LossChoice::Sigmoid);
        form.domain = Some(" law ".to_owned());
        form.set(TrainField::LabelSmoothing, "0,1");
        form.set(TrainField::Epochs, "3");
        form.data[0].prefer = Some("expert".to_owned());
        "runs/law".clone_into(&mut form.out);
    });
    let (_, changed) = start(&mut window);
    assert_eq!(changed.domain, "law");
    assert_eq!(changed.out, Some("/home/me/Documents/runs/law".into()));
    assert_eq!(changed.data[0].prefer.as_deref(), Some("expert"));
    assert_eq!(changed.settings.method, TrainMethod::Full);
    assert_eq!(changed.settings.learning_rate, 1e-5, "it follows the method");
    assert_eq!(changed.settings.loss, PreferenceLoss::Sigmoid { label_smoothing: 0.1 });
    assert_eq!(changed.settings.epochs, 3);
}

#[test]
fn domain_is_that_of_the_data_until_it_is_typed() {
    let mut window = set_up();
    let file = "/home/me/demo/legal.train.jsonl";
    act(&mut window, TrainAction::AddData(file.into()));
    let (job, _) = window.take_job(|spec| matches!(spec, JobSpec::InspectData { .. }));
    let counts = vec![("domain".to_owned(), vec![("law".to_owned(), 52)])];
    let report = DataReport { counts, ..data(file.as_ref()) };
    window.fact(job, Fact::Data(Box::new(report)));
    window.finish(job, Outcome::Done);
    let (_, joint) = start(&mut window);
    assert_eq!(joint.domain, "medical-law");
    assert_eq!(joint.data.len(), 2);
}

#[test]
fn nothing_begins_while_something_is_missing() {
    type Spoil = fn(&mut Window);
    let cases: [(Spoil, &str); 7] = [
        (|window| act(window, TrainAction::RemoveData(0)), "data"),
        (
            |window| {
                act(window, TrainAction::RemoveData(0));
                act(window, TrainAction::AddData("/d/.jsonl".into()));
                let (job, _) = window.take_job(|spec| matches!(spec, JobSpec::InspectData { .. }));
                let report = DataReport { counts: Vec::new(), ..data("/d/.jsonl".as_ref()) };
                window.fact(job, Fact::Data(Box::new(report)));
                window.finish(job, Outcome::Done);
            },
            "domain",
        ),
        (|window| fill(window, |form| form.set(TrainField::Beta, "0")), "β: Must be above 0"),
        (|window| fill(window, |form| form.set(TrainField::Batch, "x")), "Batch"),
        (|window| fill(window, |form| form.data[0].prefer = Some("safe".into())), "no level safe"),
        (
            |window| {
                act(window, TrainAction::AddData("/broken.jsonl".into()));
                let (job, _) = window.take_job(|spec| matches!(spec, JobSpec::InspectData { .. }));
                window.fail(job, UserError::new("Not UTF-8", "Save it as UTF-8"));
            },
            "broken.jsonl can't be read",
        ),
        (
            |window| {
                act(window, TrainAction::AddData("/one.jsonl".into()));
                let (job, _) = window.take_job(|spec| matches!(spec, JobSpec::InspectData { .. }));
                let mut report = data("/one.jsonl".as_ref());
                report.measures[0].levels.truncate(1);
                window.fact(job, Fact::Data(Box::new(report)));
                window.finish(job, Outcome::Done);
            },
            "one.jsonl has no two levels",
        ),
    ];
    for (spoil, words) in cases {
        let mut window = set_up();
        assert_eq!(window.model.missing_for_training(), None);
        spoil(&mut window);
        let said = window.model.missing_for_training().expect("something is missing");
        assert!(said.contains(words), "{said}");
        act(&mut window, TrainAction::Start);
        act(&mut window, TrainAction::Estimate);
        assert!(window.take_jobs().is_empty(), "{words}");
    }
}

#[test]
fn model_that_made_room_for_training_is_no_obstacle_to_more_of_it() {
    let (mut window, job, _) = running(3);
    window.fact(job, Fact::Unloaded);
    assert_eq!(window.model.missing_for_training(), None);
    start(&mut window);
    act(&mut window, TrainAction::Estimate);
    window.take_job(|it| matches!(it, JobSpec::EstimateTraining(_)));
}

#[test]
fn refusal_is_no_obstacle_since_it_may_have_gone_by_the_time_of_the_start() {
    let mut window = set_up();
    act(&mut window, TrainAction::Estimate);
    let (job, spec) = window.take_job(|it| matches!(it, JobSpec::EstimateTraining(_)));
    let JobSpec::EstimateTraining(spec) = spec else { panic!("{spec:?}") };
    assert_eq!(spec.domain, "medical");
    let mut refused = estimate();
    refused.refusal = Some("Too little memory: a batch of 2 would fit".to_owned());
    window.fact(job, Fact::TrainEstimate(Box::new(refused)));
    window.finish(job, Outcome::Done);
    assert_eq!(window.model.missing_for_training(), None);
    start(&mut window);
}

#[test]
fn estimate_that_was_called_off_has_no_say() {
    let mut window = set_up();
    act(&mut window, TrainAction::Estimate);
    let (older, _) = window.take_job(|it| matches!(it, JobSpec::EstimateTraining(_)));
    act(&mut window, TrainAction::Estimate);
    assert_eq!(window.cancelled(), [older]);
    window.fail(older, UserError::new("Broken", ""));
    let (newer, _) = window.take_job(|it| matches!(it, JobSpec::EstimateTraining(_)));
    act(&mut window, TrainAction::Estimate);
    assert_eq!(window.cancelled(), [older, newer], "the older one's end was not taken for its own");
}

#[test]
fn steps_are_kept_in_order_however_they_come() {
    let mut window = set_up();
    let (job, spec) = start(&mut window);
    // One before the run that it belongs to.
    window.fact(job, step_fact(&spec, 1));
    assert_eq!(steps(&window), Vec::<usize>::new());
    window.fact(job, Fact::Train(Box::new(begun(&spec))));
    for step in [3, 2, 5, 3] {
        window.fact(job, step_fact(&spec, step));
    }
    assert_eq!(steps(&window), [1, 2, 3, 5]);
    let at = |step| Fact::TrainValidation { run: spec.run, validation: validation(&spec, step) };
    window.fact(job, at(4));
    window.fact(job, Fact::TrainCheckpoint { run: spec.run, step: 4 });
    let run = window.model.shown_training().expect("it is shown");
    assert_eq!(run.validations.iter().map(|it| it.step).collect::<Vec<_>>(), [0, 4]);
    assert_eq!(run.checkpoint, Some(4));
    window.fact(job, Fact::Train(Box::new(trained(&spec))));
    window.finish(job, Outcome::Done);
    assert_eq!(steps(&window).len(), STEPS);
    assert_eq!(window.model.shown_training().map(|it| it.state), Some(RunState::Finished));
    assert!(window.take_jobs().iter().any(|(_, spec)| *spec == JobSpec::ListTrainings));
}

#[test]
fn steps_of_other_runs_and_of_ended_jobs_are_not_looked_at() {
    let (mut window, job, spec) = running(2);
    window.fact(job, step_fact(&TrainSpec { run: Uuid::nil(), ..spec.clone() }, 3));
    window.fact(JobId(9999), step_fact(&spec, 3));
    assert_eq!(steps(&window), [1, 2]);
    window.finish(job, Outcome::Cancelled);
    window.fact(job, step_fact(&spec, 3));
    window.fact(job, Fact::TrainCheckpoint { run: spec.run, step: 3 });
    assert_eq!(steps(&window), [1, 2]);
    assert_eq!(window.model.shown_training().and_then(|it| it.checkpoint), None);
}

#[test]
fn run_is_paused_talked_to_and_goes_on() {
    let (mut window, job, spec) = running(30);
    act(&mut window, TrainAction::GoOn(job));
    assert_eq!(told(&mut window), [], "it is not paused");
    act(&mut window, TrainAction::Pause(job));
    act(&mut window, TrainAction::Pause(job));
    assert_eq!(told(&mut window), [Command::Pause { job_id: job }], "once");
    let run = paused(&spec, 31);
    let vector = run.vector.clone().expect("there is a half-trained vector");
    window.fact(job, Fact::Train(Box::new(run.clone())));
    act(&mut window, TrainAction::ChatWith(spec.run));
    let settings = window.settings();
    assert_eq!(settings.screen, Screen::Chat);
    assert!(settings.knobs.iter().all(|knob| knob.file != vector), "it will be gone");
    assert!(settings.recent.iter().all(|it| it.path != vector), "it will be gone");
    window.answer_all();
    let turn = window.ask_and_answer("Are you half-trained?");
    assert!(turn.setup.vectors.iter().any(|it| it.file == vector && it.coefficient == 1.0));
    told(&mut window);
    window.command(UiCommand::GoOnTraining);
    assert_eq!(told(&mut window), [Command::GoOn { job_id: job }]);
    assert_eq!(window.model.shown_training().map(|it| it.is_paused), Some(false));
    // At the next pause the file holds another vector: the weights are moved to it.
    act(&mut window, TrainAction::Pause(job));
    window.answer_all();
    window.fact(job, Fact::Train(Box::new(paused(&spec, 40))));
    assert_eq!(window.take_prepares().len(), 1);
}

#[test]
fn run_is_ended_early_and_kept() {
    let mut window = set_up();
    let (job, spec) = start(&mut window);
    act(&mut window, TrainAction::WrapUp(job));
    assert_eq!(told(&mut window), [], "there is nothing to keep before the first step");
    window.apply(Event::Progress { job_id: job, stage: Stage::Training, done: 1, total: 60 });
    window.fact(job, Fact::Train(Box::new(so_far(&spec, 2))));
    window.command(UiCommand::WrapUpTraining);
    act(&mut window, TrainAction::Pause(job));
    assert_eq!(told(&mut window), [Command::WrapUp { job_id: job }], "it ends, it does not pause");
    let mut run = so_far(&spec, 3);
    run.ended = Some("Stopped and kept".to_owned());
    run.state = RunState::Finished;
    run.vector = Some("/r/vector.safetensors".into());
    window.fact(job, Fact::Train(Box::new(run)));
    window.finish(job, Outcome::Done);
    act(&mut window, TrainAction::AddToKnobs(spec.run));
    let files: Vec<_> = window.settings().knobs.into_iter().map(|knob| knob.file).collect();
    assert!(files.contains(&"/r/vector.safetensors".into()), "{files:?}");
}

#[test]
fn runs_wait_for_each_other_and_the_first_is_meant_by_commands() {
    let (mut window, first, _) = running(3);
    let (second, waiting) = start(&mut window);
    assert_ne!(window.model.shown_training().map(|it| it.spec.run), Some(waiting.run));
    act(&mut window, TrainAction::Pause(second));
    act(&mut window, TrainAction::GoOn(second));
    let expected = [Command::Pause { job_id: second }, Command::GoOn { job_id: second }];
    assert_eq!(told(&mut window), expected);
    window.command(UiCommand::PauseTraining);
    assert_eq!(told(&mut window), [Command::Pause { job_id: first }]);
    act(&mut window, TrainAction::AskDelete(waiting.run));
    window.update(Action::Dialog(DialogAction::Accept));
    assert!(!window.take_jobs().iter().any(|(_, it)| matches!(it, JobSpec::DeleteTraining { .. })));
    act(&mut window, TrainAction::Cancel(JobId(9999)));
    assert_eq!(told(&mut window), []);
}

#[test]
fn runs_are_opened_laid_over_each_other_and_forgotten() {
    let runs = [spec(1, "medical"), spec(2, "financial")].map(|it| trained(&it));
    let [medical, financial] = [1, 2].map(Uuid::from_u128);
    let mut window = Window::ready();
    window.command(UiCommand::ShowTrain);
    lists(&mut window, &runs);
    window.answer_all();
    act(&mut window, TrainAction::Compare(medical, true));
    loads(&mut window, &runs);
    assert_eq!(window.model.shown_training().map(|it| it.spec.run), Some(medical), "the only one");
    act(&mut window, TrainAction::Compare(financial, true));
    loads(&mut window, &runs);
    act(&mut window, TrainAction::Open(financial));
    assert!(window.take_jobs().is_empty(), "it was read");
    act(&mut window, TrainAction::AskDelete(financial));
    assert!(window.take_jobs().is_empty(), "it is asked first");
    window.update(Action::Dialog(DialogAction::Accept));
    window.take_job(|spec| *spec == JobSpec::DeleteTraining { run: financial });
    assert!(window.model.shown_training().is_none());
}

#[test]
fn run_that_can_not_be_read_leaves_the_screen_as_it_was() {
    let mut window = Window::ready();
    act(&mut window, TrainAction::Open(Uuid::from_u128(1)));
    loads(&mut window, &[trained(&spec(1, "medical"))]);
    act(&mut window, TrainAction::Open(Uuid::from_u128(2)));
    let (job, _) = window.take_job(|spec| matches!(spec, JobSpec::LoadTraining { .. }));
    window.fail(job, UserError::new("It is gone", ""));
    assert!(window.model.shown_training().is_none());
    act(&mut window, TrainAction::Open(Uuid::from_u128(1)));
    assert!(window.model.shown_training().is_some());
}

#[test]
fn data_that_are_dropped_on_the_screen_are_trained_on() {
    let mut window = set_up();
    window.update(Action::OpenPaths(vec!["/d/more.jsonl".into()]));
    window.answer_all();
    assert_eq!(window.model.train_form().data.len(), 2);
    assert_eq!(window.settings().screen, Screen::Train);
    window.update(Action::Picked(PathPurpose::TrainData, vec!["/d/third.jsonl".into()]));
    window.update(Action::Picked(PathPurpose::TrainFolder, vec!["/runs/one".into()]));
    assert_eq!(window.model.train_form().data.len(), 3);
    assert_eq!(window.model.train_form().out, "/runs/one");
}

#[test]
fn folder_is_that_of_one_run() {
    let mut window = set_up();
    let name = |window: &mut Window, folder: &str| {
        fill(window, |form| folder.clone_into(&mut form.out));
        window.model.missing_for_training()
    };
    let listed = so_far(&spec(3, "medical"), 34);
    window.command(UiCommand::ShowTrain);
    let (job, _) = window.take_job(|spec| *spec == JobSpec::ListTrainings);
    window.fact(job, Fact::Trainings(vec![summary(&listed)]));
    assert_eq!(name(&mut window, "/runs/one"), None);
    start(&mut window);
    for taken in ["/runs/one", "/home/me/meav/runs/3"] {
        let said = name(&mut window, taken).expect("it is taken");
        assert!(said.contains(taken), "{said}");
        act(&mut window, TrainAction::Start);
        assert!(!window.take_jobs().iter().any(|(_, spec)| is_train(spec)), "{taken}");
    }
    assert_eq!(name(&mut window, "/runs/two"), None);
    start(&mut window);
}

#[test]
fn domain_that_is_emptied_or_left_without_data_is_that_of_the_data_again() {
    let mut window = set_up();
    fill(&mut window, |form| form.domain = Some(" ".to_owned()));
    assert_eq!(start(&mut window).1.domain, "medical");
    fill(&mut window, |form| form.domain = Some("law".to_owned()));
    assert_eq!(start(&mut window).1.domain, "law");
    act(&mut window, TrainAction::RemoveData(0));
    act(&mut window, TrainAction::AddData(MEDICAL_TRAIN.into()));
    assert_eq!(start(&mut window).1.domain, "medical");
}

fn any_action(rng: &mut fastrand::Rng, (run, job): (Uuid, JobId)) -> Action {
    let file = ["/d/a.jsonl", MEDICAL_TRAIN][rng.usize(..2)];
    let action = match rng.u8(..20) {
        0..3 => TrainAction::Start,
        3 => {
            let actions = [TrainAction::Begin(run), TrainAction::Forget(run)];
            actions[rng.usize(..2)].clone()
        }
        4 => TrainAction::Pause(job),
        5 => TrainAction::GoOn(job),
        6 => TrainAction::WrapUp(job),
        7 => TrainAction::Cancel(job),
        8 => TrainAction::ChatWith(run),
        9 => TrainAction::AddToKnobs(run),
        10 => TrainAction::SweepIt(run),
        11 => TrainAction::Resume(run),
        12 => TrainAction::Open(run),
        13 => TrainAction::Compare(run, rng.bool()),
        14 => TrainAction::AskDelete(run),
        15 => TrainAction::AddData(file.into()),
        16 => TrainAction::RemoveData(rng.usize(..3)),
        17 => TrainAction::Estimate,
        18 => return Action::Dialog(DialogAction::Accept),
        _ => {
            let commands =
                [UiCommand::ShowTrain, UiCommand::PauseTraining, UiCommand::GoOnTraining];
            return Action::Command(commands[rng.usize(..3)]);
        }
    };
    Action::Train(action)
}

/// What an engine without its wits may say.
fn any_fact(rng: &mut fastrand::Rng, run: Uuid, spec: &JobSpec) -> Fact {
    let mut train = self::spec(run.as_u128(), "medical");
    if let (JobSpec::Train(spec), true) = (spec, rng.bool()) {
        train.clone_from(spec);
    }
    let step = rng.usize(1..=STEPS);
    match rng.u8(..8) {
        0..3 => step_fact(&train, step),
        3 => Fact::TrainValidation { run: train.run, validation: validation(&train, step) },
        4 => Fact::TrainCheckpoint { run: train.run, step },
        5 => Fact::Trainings(vec![summary(&so_far(&train, step))]),
        6 => Fact::TrainEstimate(Box::new(estimate())),
        _ => {
            let mut run = if rng.bool() { paused(&train, step) } else { so_far(&train, step) };
            run.state = [RunState::Running, RunState::Stopped, RunState::Finished][rng.usize(..3)];
            rng.shuffle(&mut run.steps);
            Fact::Train(Box::new(run))
        }
    }
}

#[test]
fn no_order_of_events_confuses_the_screen() {
    let (mut n_started, mut n_told) = (0, 0);
    for seed in 0..80 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut window = set_up();
        let mut running: Vec<(JobId, JobSpec)> = Vec::new();
        let mut runs = vec![Uuid::from_u128(1)];
        for _ in 0..120 {
            let run = runs[rng.usize(..runs.len())];
            let any = running.get(rng.usize(..running.len().max(1)));
            let job = any.map_or(JobId(9999), |(job, _)| *job);
            match (rng.u8(..5), running.len()) {
                (0..2, _) | (_, 0) => window.update(any_action(&mut rng, (run, job))),
                (2..4, len) => {
                    let (job, spec) = running[rng.usize(..len)].clone();
                    if rng.bool() {
                        window.fact(job, any_fact(&mut rng, run, &spec));
                    } else {
                        window.answer_facts(job, &spec);
                    }
                }
                _ if rng.u8(..20) == 0 => {
                    // The engine is lost, and all its jobs with it.
                    for (job, _) in std::mem::take(&mut running) {
                        window.fail(job, UserError::new("The engine stopped", ""));
                    }
                    window.apply(crate::values::lost("it has lost its wits"));
                    runs.extend(window.settings().trainings.iter().map(|it| it.run));
                }
                (_, len) => {
                    let (job, _) = running.swap_remove(rng.usize(..len));
                    let err = UserError::new("Broken", "");
                    let outcomes = [Outcome::Done, Outcome::Cancelled, Outcome::Failed(err)];
                    window.finish(job, outcomes[rng.usize(..3)].clone());
                }
            }
            for (job, spec) in window.take_jobs() {
                if let JobSpec::Train(spec) = &spec {
                    n_started += 1;
                    runs.push(spec.run);
                    assert!(!spec.data.is_empty() && !spec.domain.is_empty());
                }
                running.push((job, spec));
            }
            for command in told(&mut window) {
                let (Command::Cancel { job_id }
                | Command::Pause { job_id }
                | Command::GoOn { job_id }
                | Command::WrapUp { job_id }) = command
                else {
                    panic!("{command:?}")
                };
                n_told += 1;
                let known = running.iter().find(|(job, _)| *job == job_id);
                let (_, spec) = known.expect("a job is told something while it runs");
                assert!(is_train(spec) || matches!(command, Command::Cancel { .. }), "{command:?}");
            }
            let mut active: Vec<Uuid> = running
                .iter()
                .filter_map(|(_, spec)| match spec {
                    JobSpec::Train(spec) => Some(spec.run),
                    _ => None,
                })
                .collect();
            active.sort_unstable();
            assert!(active.windows(2).all(|two| two[0] != two[1]), "seed {seed}: one run twice");
            let steps = steps(&window);
            assert!(steps.windows(2).all(|two| two[0] < two[1]), "seed {seed}: {steps:?}");
        }
        // The engine ends what it has; then nothing is left.
        for (job, _) in running {
            window.finish(job, Outcome::Cancelled);
        }
        window.answer_all();
        window.update(Action::Dialog(DialogAction::Close));
        window.effects.clear();
        window.update(Action::CloseRequested);
        assert_eq!(window.effects.last(), Some(&Effect::Quit), "seed {seed}");
    }
    assert!(n_started > 100 && n_told > 100, "{n_started}, {n_told}");
}
