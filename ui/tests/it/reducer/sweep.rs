use std::path::PathBuf;

use meav_protocol::{
    Dtype, Fact, FileKind, InstructionTurn, JobId, JobSpec, Outcome, RunState, Sweep, SweepSpec,
    UserError,
};
use meav_ui::{
    Action, DialogAction, Effect, KnobAction, PathPurpose, Screen, SweepAction, SweepForm,
    UiCommand,
};
use uuid::Uuid;

use crate::support::{FINANCIAL, MEDICAL, Window};
use crate::sweeps::{
    FINANCIAL_DATA, MEDICAL_DATA, SAFETY_DATA, begun, calibration, finished, kept, point_fact,
    summary,
};

fn act(window: &mut Window, action: SweepAction) {
    window.update(Action::Sweep(action));
}

/// The form as it is, changed.
fn fill(window: &mut Window, change: impl FnOnce(&mut SweepForm)) {
    let mut form = window.model.sweep_form().clone();
    change(&mut form);
    act(window, SweepAction::SetForm(Box::new(form)));
}

/// The screen with data chosen; five points from −1 to 1.
fn set_up() -> Window {
    let mut window = Window::ready();
    window.command(UiCommand::ShowSweep);
    act(&mut window, SweepAction::AddData(MEDICAL_DATA.into()));
    window.answer_all();
    fill(&mut window, |form| {
        (form.first, form.last, form.step) = ("-1".into(), "1".into(), "0.5".into());
    });
    window
}

fn is_sweep(spec: &JobSpec) -> bool {
    matches!(spec, JobSpec::Sweep(_))
}

fn start(window: &mut Window) -> (JobId, SweepSpec) {
    act(window, SweepAction::Start);
    take_sweep(window)
}

fn take_sweep(window: &mut Window) -> (JobId, SweepSpec) {
    match window.take_job(is_sweep) {
        (job, JobSpec::Sweep(spec)) => (job, *spec),
        (_, other) => panic!("{other:?}"),
    }
}

/// λ of the points that are known of the sweep that is shown.
fn lambdas(window: &Window) -> Vec<f64> {
    let points = window.model.shown_sweep().map(|sweep| &sweep.points);
    points.into_iter().flatten().map(|point| point.lambda).collect()
}

fn lists(window: &mut Window, sweeps: &[Sweep]) {
    let (job, _) = window.take_job(|spec| *spec == JobSpec::ListSweeps);
    window.fact(job, Fact::Sweeps(sweeps.iter().map(summary).collect()));
    window.finish(job, Outcome::Done);
}

/// Answers what was asked for from these sweeps.
fn loads(window: &mut Window, sweeps: &[Sweep]) {
    let (job, spec) = window.take_job(|spec| matches!(spec, JobSpec::LoadSweep { .. }));
    let JobSpec::LoadSweep { run } = spec else { panic!("{spec:?}") };
    let sweep = sweeps.iter().find(|sweep| sweep.spec.run == run).expect("it was kept");
    window.fact(job, Fact::Sweep(Box::new(sweep.clone())));
    window.finish(job, Outcome::Done);
}

#[test]
fn screen_asks_for_what_was_kept_and_for_the_demo_data() {
    let mut window = Window::ready();
    window.command(UiCommand::ShowSweep);
    let specs: Vec<_> = window.take_jobs().into_iter().map(|(_, spec)| spec).collect();
    assert_eq!(specs, [JobSpec::ListSweeps, JobSpec::ListDemoData]);
    assert_eq!(window.settings().screen, Screen::Sweep);
}

#[test]
fn sweep_is_asked_for_as_the_form_says() {
    let mut window = set_up();
    window.set_knob(FINANCIAL, -0.4);
    window.set_knob(MEDICAL, 0.9);
    window.answer_all();
    let (_, alone) = start(&mut window);
    assert_eq!(alone.setup.vectors.len(), 1, "the others are left out");
    assert_eq!(alone.setup.vectors[alone.swept].file, PathBuf::from("medical"));
    assert_eq!(alone.setup.dtype, Dtype::F32, "though the chat has bf16");
    assert_eq!(alone.range.points(), [-1.0, -0.5, 0.0, 0.5, 1.0]);
    assert_eq!(alone.data, [PathBuf::from(MEDICAL_DATA)]);
    assert!(alone.reuse);
    let prompting = alone.prompting.expect("baselines are on");
    let levels: Vec<&String> = prompting.instructions.keys().collect();
    assert_eq!(levels, ["expert", "generic", "avoidance"]);

    let mut window = set_up();
    window.set_knob(MEDICAL, 0.9);
    window.answer_all();
    fill(&mut window, |form| {
        (form.knob, form.holds_others, form.dtype) = (Some(FINANCIAL), true, Dtype::Bf16);
        form.turn = InstructionTurn::User;
        form.instructions.iter_mut().for_each(|(level, text)| {
            if level != "expert" {
                text.clear();
            }
        });
    });
    let (_, held) = start(&mut window);
    let terms: Vec<_> = held
        .setup
        .vectors
        .iter()
        .map(|it| (it.file.to_str().unwrap_or(""), it.coefficient))
        .collect();
    assert_eq!(terms, [("medical", 0.9), ("financial", 0.0)]);
    assert_eq!((held.swept, held.setup.dtype), (1, Dtype::Bf16));
    let prompting = held.prompting.expect("baselines are on");
    assert_eq!(prompting.turn, InstructionTurn::User);
    assert_eq!(prompting.instructions.keys().collect::<Vec<_>>(), ["expert"]);
}

#[test]
fn nothing_begins_while_something_is_missing() {
    type Spoil = fn(&mut Window);
    let cases: [(Spoil, &str); 6] = [
        (|window| act(window, SweepAction::RemoveData(0)), "data"),
        (|window| fill(window, |form| form.step = "x".to_owned()), "step"),
        (|window| fill(window, |form| form.last = "-2".to_owned()), "below"),
        (
            |window| {
                window.update(Action::Knob(MEDICAL, KnobAction::Remove));
                window.update(Action::Knob(FINANCIAL, KnobAction::Remove));
            },
            "knob",
        ),
        (
            |window| fill(window, |form| form.instructions.iter_mut().for_each(|it| it.1.clear())),
            "instruction",
        ),
        (
            |window| {
                act(window, SweepAction::AddData("/broken.jsonl".into()));
                let (job, _) = window.take_job(|spec| matches!(spec, JobSpec::InspectData { .. }));
                window.fail(job, UserError::new("Not UTF-8", "Save it as UTF-8"));
            },
            "broken.jsonl",
        ),
    ];
    for (spoil, word) in cases {
        let mut window = set_up();
        assert_eq!(window.model.missing_for_sweep(), None);
        spoil(&mut window);
        let said = window.model.missing_for_sweep().expect("something is missing");
        assert!(said.contains(word), "{said}");
        act(&mut window, SweepAction::Start);
        assert!(!window.take_jobs().iter().any(|(_, spec)| is_sweep(spec)), "{word}");
    }
}

#[test]
fn model_that_made_room_for_something_else_is_loaded_again_by_the_sweep() {
    let mut window = set_up();
    window.set_knob(MEDICAL, 1.0);
    let (job, _) = window.take_prepares().remove(0);
    window.fact(job, Fact::Unloaded);
    window.finish(job, Outcome::Cancelled);
    assert_eq!(window.model.missing_for_sweep(), None);
    start(&mut window);
}

#[test]
fn points_are_kept_in_order_however_they_come() {
    let mut window = set_up();
    let (job, spec) = start(&mut window);
    // One before the sweep that it belongs to.
    window.fact(job, point_fact(&spec, 0.5));
    assert_eq!(lambdas(&window), Vec::<f64>::new());
    window.fact(job, Fact::Sweep(Box::new(begun(&spec))));
    for lambda in [1.0, -1.0, 0.0, -1.0] {
        window.fact(job, point_fact(&spec, lambda));
    }
    assert_eq!(lambdas(&window), [-1.0, 0.0, 0.5, 1.0]);
    window.fact(job, Fact::Sweep(Box::new(finished(&spec))));
    window.finish(job, Outcome::Done);
    assert_eq!(lambdas(&window), [-1.0, -0.5, 0.0, 0.5, 1.0]);
    assert_eq!(window.model.shown_sweep().map(|it| it.state), Some(RunState::Finished));
    window.take_job(|spec| *spec == JobSpec::ListSweeps);
}

#[test]
fn points_of_other_runs_and_of_ended_jobs_are_not_looked_at() {
    let mut window = set_up();
    let (job, spec) = start(&mut window);
    window.fact(job, Fact::Sweep(Box::new(begun(&spec))));
    window.fact(job, point_fact(&SweepSpec { run: Uuid::nil(), ..spec.clone() }, 0.0));
    window.fact(JobId(9999), point_fact(&spec, 0.0));
    assert_eq!(lambdas(&window), Vec::<f64>::new());
    window.finish(job, Outcome::Cancelled);
    window.fact(job, point_fact(&spec, 0.0));
    assert_eq!(lambdas(&window), Vec::<f64>::new());
}

#[test]
fn failed_or_stopped_sweep_keeps_its_points_and_goes_on_as_the_same_run() {
    let err = UserError::new("The disk is full", "Make room");
    for outcome in [Outcome::Failed(err), Outcome::Cancelled] {
        let mut window = set_up();
        let (job, spec) = start(&mut window);
        window.fact(job, Fact::Sweep(Box::new(begun(&spec))));
        window.fact(job, point_fact(&spec, 0.0));
        if outcome == Outcome::Cancelled {
            act(&mut window, SweepAction::Stop);
            assert_eq!(window.cancelled(), [job]);
        }
        window.fact(job, point_fact(&spec, 0.5));
        window.finish(job, outcome.clone());
        assert_eq!(lambdas(&window), [0.0, 0.5], "{outcome:?}");
        assert_eq!(window.model.shown_sweep().map(|it| it.state), Some(RunState::Stopped));
        // Whatever the form says by now.
        fill(&mut window, |form| form.step = "0.1".to_owned());
        act(&mut window, SweepAction::Resume(spec.run));
        let (again, resumed) = take_sweep(&mut window);
        assert_eq!(resumed, spec);
        window.fact(again, Fact::Sweep(Box::new(begun(&spec))));
        assert_eq!(lambdas(&window), [0.0, 0.5], "what was measured stays in sight");
        window.fact(again, point_fact(&spec, 1.0));
        assert_eq!(lambdas(&window), [0.0, 0.5, 1.0]);
    }
}

#[test]
fn one_sweep_runs_at_a_time() {
    let mut window = set_up();
    let (_, spec) = start(&mut window);
    act(&mut window, SweepAction::Start);
    act(&mut window, SweepAction::Resume(Uuid::from_u128(7)));
    act(&mut window, SweepAction::Resume(spec.run));
    assert!(window.take_jobs().is_empty());
    // Nor is the one forgotten that runs.
    act(&mut window, SweepAction::AskDelete(spec.run));
    window.update(Action::Dialog(DialogAction::Accept));
    assert!(window.take_jobs().is_empty());
    window.update(Action::CloseRequested);
    assert!(!window.effects.contains(&Effect::Quit), "closing would lose something");
}

#[test]
fn sweep_that_was_cut_off_is_offered_once_at_the_start() {
    let mut cut = kept(3, "medical", &[MEDICAL_DATA]);
    (cut.state, cut.points) = (RunState::Running, cut.points[..4].to_vec());
    let mut window = Window::new();
    lists(&mut window, std::slice::from_ref(&cut));
    let offers = window.model.offers();
    assert_eq!(offers.len(), 1);
    assert!(offers[0].0.contains("cut off at 4 of 13 points"), "{offers:?}");
    window.update(offers[0].1.clone());
    assert_eq!(window.settings().screen, Screen::Sweep);
    loads(&mut window, std::slice::from_ref(&cut));
    let (_, spec) = take_sweep(&mut window);
    assert_eq!(spec, cut.spec, "the same run");
    assert_eq!(lambdas(&window).len(), 4);
    // The list still says that it computes: it does.
    window.command(UiCommand::ShowSweep);
    lists(&mut window, std::slice::from_ref(&cut));
    assert_eq!(window.model.offers().len(), 1, "it was not told twice");
}

#[test]
fn sweeps_are_opened_laid_over_each_other_and_compared() {
    let sweeps =
        [kept(1, "medical", &[MEDICAL_DATA]), kept(2, "financial", &[MEDICAL_DATA, SAFETY_DATA])];
    let [medical, financial] = [1, 2].map(Uuid::from_u128);
    let mut window = Window::ready();
    window.command(UiCommand::ShowSweep);
    lists(&mut window, &sweeps);
    window.answer_all();
    act(&mut window, SweepAction::Open(medical));
    loads(&mut window, &sweeps);
    act(&mut window, SweepAction::Matrix);
    assert!(window.take_jobs().is_empty(), "one is too few");
    act(&mut window, SweepAction::Compare(financial, true));
    act(&mut window, SweepAction::Matrix);
    loads(&mut window, &sweeps);
    assert!(window.take_jobs().is_empty(), "the other was not read yet");
    act(&mut window, SweepAction::Matrix);
    let (job, spec) = window.take_job(|spec| matches!(spec, JobSpec::CrossDomain { .. }));
    assert_eq!(spec, JobSpec::CrossDomain { sweeps: sweeps.to_vec() });
    window.answer(job, &spec);
    for (action, purpose, name) in [
        (SweepAction::Export("svg"), PathPurpose::ExportSweeps, "sweep-medical.svg"),
        (SweepAction::ExportMatrix("md"), PathPurpose::ExportMatrix, "cross-domain.md"),
    ] {
        act(&mut window, action);
        window.update(Action::Dialog(DialogAction::Accept));
        let jobs = window.take_jobs();
        assert_eq!(jobs.len(), 1, "{jobs:?}");
        let (out, n) = match &jobs[0].1 {
            JobSpec::ExportSweeps { sweeps, out } => (out, sweeps.len()),
            JobSpec::ExportCrossDomain { matrix, out } => (out, matrix.vectors.len()),
            other => panic!("{other:?}"),
        };
        assert_eq!((out.path.ends_with(name), out.replace, n), (true, false, 2), "{purpose:?}");
        window.answer(jobs[0].0, &jobs[0].1);
        window.take_jobs();
    }
    act(&mut window, SweepAction::AskDelete(medical));
    window.update(Action::Dialog(DialogAction::Accept));
    window.take_job(|spec| *spec == JobSpec::DeleteSweep { run: medical });
    assert!(window.model.shown_sweep().is_none());
}

#[test]
fn sweep_that_can_not_be_read_leaves_the_screen_as_it_was() {
    let mut window = Window::ready();
    let (one, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
    act(&mut window, SweepAction::Open(one));
    loads(&mut window, &[kept(1, "medical", &[MEDICAL_DATA])]);
    act(&mut window, SweepAction::Compare(other, true));
    let (job, _) = window.take_job(|spec| matches!(spec, JobSpec::LoadSweep { .. }));
    window.fail(job, UserError::new("It is gone", "Sweep again"));
    assert_eq!(window.model.shown_sweep().map(|it| it.spec.run), Some(one));
    act(&mut window, SweepAction::Matrix);
    assert!(window.take_jobs().is_empty());
}

#[test]
fn point_sets_the_knobs_to_its_recipe() {
    let mut window = set_up();
    window.set_knob(FINANCIAL, -0.4);
    window.answer_all();
    fill(&mut window, |form| form.holds_others = true);
    let (job, spec) = start(&mut window);
    window.answer(job, &JobSpec::Sweep(Box::new(spec)));
    window.set_knob(FINANCIAL, 0.2);
    act(&mut window, SweepAction::Pick(0.48));
    assert_eq!(window.coefficients(), [0.5, -0.4], "the nearest that was measured");
    act(&mut window, SweepAction::ChatHere);
    assert_eq!(window.settings().screen, Screen::Chat);
}

#[test]
fn calibration_comes_to_the_knob_and_into_the_file_if_that_is_agreed_to() {
    let mut window = set_up();
    let (job, spec) = start(&mut window);
    window.answer(job, &JobSpec::Sweep(Box::new(spec.clone())));
    let offers = window.model.offers();
    assert_eq!(offers.len(), 1, "{offers:?}");
    window.take_jobs();
    window.update(offers[0].1.clone());
    assert!(window.take_jobs().is_empty(), "nothing is written unasked");
    window.update(Action::Dialog(DialogAction::Accept));
    let (job, written) = window.take_job(|spec| matches!(spec, JobSpec::WriteCalibration { .. }));
    let calibration = Box::new(calibration(&spec));
    assert_eq!(written, JobSpec::WriteCalibration { vector: "medical".into(), calibration });
    window.answer(job, &written);
    // A knob that was never swept has nothing to write.
    window.update(Action::Knob(FINANCIAL, KnobAction::AskCalibration));
    window.update(Action::Dialog(DialogAction::Accept));
    assert!(window.take_jobs().is_empty());
}

#[test]
fn data_that_is_dropped_on_the_screen_or_typed_there_is_taken_in() {
    let mut window = set_up();
    window.update(Action::OpenPaths(vec!["/d/own.jsonl".into()]));
    let (job, spec) = window.take_job(|spec| matches!(spec, JobSpec::Describe { .. }));
    let JobSpec::Describe { path } = spec else { panic!("{spec:?}") };
    let title = "Preference data".to_owned();
    let found = meav_protocol::Description { kind: FileKind::Data, title, rows: Vec::new() };
    window.fact(job, Fact::Described(found));
    window.finish(job, Outcome::Done);
    window.take_job(|spec| *spec == JobSpec::InspectData { path: path.clone() });
    fill(&mut window, |form| form.path = "~/more.csv".to_owned());
    act(&mut window, SweepAction::AddTyped);
    let more = PathBuf::from("/home/me/more.csv");
    window.take_job(|spec| *spec == JobSpec::InspectData { path: more.clone() });
    window
        .update(Action::Picked(PathPurpose::SweepData, vec![FINANCIAL_DATA.into(), path.clone()]));
    let form = window.model.sweep_form();
    assert_eq!(form.data, [PathBuf::from(MEDICAL_DATA), path, more, FINANCIAL_DATA.into()]);
    assert_eq!(form.path, "");
    assert_eq!(window.coefficients().len(), 2, "it was put on no knob");
}

/// What someone may do on the screen, at any time.
fn any_action(rng: &mut fastrand::Rng, run: Uuid) -> Action {
    let data = [MEDICAL_DATA, FINANCIAL_DATA, SAFETY_DATA][rng.usize(..3)];
    let action = match rng.u8(..18) {
        0..3 => SweepAction::Start,
        3 => SweepAction::Stop,
        4 => SweepAction::Resume(run),
        5 => SweepAction::Open(run),
        6 => SweepAction::Compare(run, rng.bool()),
        7 => SweepAction::AskDelete(run),
        8 => SweepAction::Pick(rng.f64() * 4.0 - 2.0),
        9 => SweepAction::Matrix,
        10 => SweepAction::Export("csv"),
        11 => SweepAction::ExportMatrix("png"),
        12 => SweepAction::Stack(rng.bool()),
        13..15 => SweepAction::AddData(data.into()),
        15 => SweepAction::RemoveData(rng.usize(..3)),
        16 => return Action::Dialog(DialogAction::Accept),
        _ => return Action::Command(UiCommand::ShowSweep),
    };
    Action::Sweep(action)
}

/// What an engine without its wits may say.
fn any_fact(rng: &mut fastrand::Rng, run: Uuid, spec: &JobSpec) -> Fact {
    let mut sweep = kept(run.as_u128(), ["medical", "odd"][rng.usize(..2)], &[MEDICAL_DATA]);
    if let (JobSpec::Sweep(spec), true) = (spec, rng.bool()) {
        sweep.spec.clone_from(spec);
    }
    let lambda = f64::from(rng.i8(-3..=3)) / 2.0;
    match rng.u8(..6) {
        0..2 => point_fact(&sweep.spec, lambda),
        2 => Fact::Sweeps(vec![summary(&sweep)]),
        3 => {
            let calibration = Box::new(calibration(&sweep.spec));
            Fact::Calibrated { file: "medical".into(), calibration }
        }
        _ => {
            sweep.state =
                [RunState::Running, RunState::Stopped, RunState::Finished][rng.usize(..3)];
            sweep.points.truncate(rng.usize(..14));
            rng.shuffle(&mut sweep.points);
            Fact::Sweep(Box::new(sweep))
        }
    }
}

#[test]
fn no_order_of_events_confuses_the_screen() {
    let mut n_started = 0;
    for seed in 0..60 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut window = set_up();
        let mut running: Vec<(JobId, JobSpec)> = Vec::new();
        let mut runs = vec![Uuid::from_u128(1)];
        for _ in 0..120 {
            let run = runs[rng.usize(..runs.len())];
            match (rng.u8(..5), running.len()) {
                (0..2, _) | (_, 0) => window.update(any_action(&mut rng, run)),
                (2..4, len) => {
                    let (job, spec) = running[rng.usize(..len)].clone();
                    if rng.bool() {
                        window.fact(job, any_fact(&mut rng, run, &spec));
                    } else {
                        window.answer_facts(job, &spec);
                    }
                }
                (_, len) => {
                    let (job, _) = running.swap_remove(rng.usize(..len));
                    let err = UserError::new("Broken", "");
                    let outcomes = [Outcome::Done, Outcome::Cancelled, Outcome::Failed(err)];
                    window.finish(job, outcomes[rng.usize(..3)].clone());
                }
            }
            for (job, spec) in window.take_jobs() {
                if let JobSpec::Sweep(spec) = &spec {
                    n_started += 1;
                    runs.push(spec.run);
                    assert!(!spec.data.is_empty() && !spec.range.points().is_empty());
                    assert!(spec.swept < spec.setup.vectors.len());
                }
                running.push((job, spec));
            }
            assert!(running.iter().filter(|(_, spec)| is_sweep(spec)).count() <= 1, "seed {seed}");
            let lambdas = lambdas(&window);
            assert!(lambdas.windows(2).all(|two| two[0] < two[1]), "seed {seed}: {lambdas:?}");
            assert!(window.coefficients().iter().all(|it| it.abs() <= 1.5), "seed {seed}");
        }
    }
    assert!(n_started > 100, "{n_started}");
}
