//! What is left of a training run when it is paused, ends, or loses its engine or its window.

use meav_protocol::{
    Command, Event, Fact, JobSpec, Outcome, RunState, Stage, TrainRun, TrainSpec, TrainSummary,
    UserError,
};
use meav_ui::{
    Action, DialogAction, Effect, KnobId, Screen, SweepAction, TrainAction, TrainField, UiCommand,
};

use super::train::{
    act, fill, is_train, jobs_of, lists, lists_nothing, loads, running, says, set_up, start, steps,
    take_train, told,
};
use crate::support::Window;
use crate::sweeps::{MEDICAL_DATA, data};
use crate::trainings::{begun, paused, so_far, spec, step_fact, summary, trained};

#[test]
fn what_can_not_go_on_is_not_resumed_and_why_is_said() {
    type Spoil = fn(&mut TrainRun, &mut TrainSummary);
    let cases: [(Spoil, &str); 4] = [
        (
            |run, listed| {
                run.state = RunState::Finished;
                (listed.state, listed.is_resumable) = (RunState::Finished, false);
            },
            "It has come to its end",
        ),
        (
            |run, listed| {
                (run.state, run.diverged) = (RunState::Stopped, true);
                (listed.state, listed.is_resumable) = (RunState::Stopped, false);
            },
            "begin a new run with a third of the learning rate",
        ),
        (|_, listed| listed.is_resumable = false, "It is running elsewhere"),
        (
            |run, listed| {
                run.state = RunState::Stopped;
                (listed.state, listed.is_resumable) = (RunState::Stopped, false);
            },
            "Its folder is not there any more",
        ),
    ];
    for (spoil, words) in cases {
        let mut run = so_far(&spec(3, "medical"), 34);
        let mut listed = summary(&run);
        spoil(&mut run, &mut listed);
        let mut window = Window::new();
        act(&mut window, TrainAction::Open(run.spec.run));
        loads(&mut window, std::slice::from_ref(&run));
        let (job, _) = window.take_job(|spec| *spec == JobSpec::ListTrainings);
        window.fact(job, Fact::Trainings(vec![listed]));
        assert_eq!(window.model.offers(), [], "{words}");
        act(&mut window, TrainAction::Resume(run.spec.run));
        assert!(!window.take_jobs().iter().any(|(_, spec)| is_train(spec)), "{words}");
        assert!(says(&window, words), "{words}");
    }
}

#[test]
fn knob_of_a_half_trained_vector_gets_the_whole_one_or_goes() {
    for is_kept in [true, false] {
        let (mut window, job, spec) = running(30);
        let run = paused(&spec, 30);
        let half = run.vector.clone().expect("there is a half-trained vector");
        window.fact(job, Fact::Train(Box::new(run)));
        act(&mut window, TrainAction::ChatWith(spec.run));
        window.answer_all();
        window.set_knob(KnobId(3), 0.7);
        // On its way when the file goes.
        let (moving, _) = window.take_prepares().remove(0);
        act(&mut window, TrainAction::GoOn(job));
        let outcome = if is_kept {
            window.fact(job, Fact::Train(Box::new(trained(&spec))));
            Outcome::Done
        } else {
            let stopped = TrainRun { state: RunState::Stopped, ..so_far(&spec, 31) };
            window.fact(job, Fact::Train(Box::new(stopped)));
            Outcome::Cancelled
        };
        window.finish(job, outcome);
        window.fail(moving, crate::values::about(&half.display().to_string(), "It is gone"));
        let (_, setup) = window.take_prepares().pop().expect("the weights follow");
        let known: Vec<_> =
            setup.vectors.iter().filter(|it| it.coefficient == 0.7).map(|it| &it.file).collect();
        if is_kept {
            assert_eq!(known, [&trained(&begun(&spec).spec).vector.expect("it is trained")]);
        } else {
            assert_eq!(known, [] as [&std::path::PathBuf; 0]);
        }
        assert!(setup.vectors.iter().all(|it| it.file != half), "{setup:?}");
    }
}

#[test]
fn half_trained_vector_that_failed_before_is_tried_again_to_chat_with() {
    let (mut window, job, spec) = running(30);
    let run = paused(&spec, 30);
    let half = run.vector.clone().expect("there is a half-trained vector");
    window.fact(job, Fact::Train(Box::new(run)));
    act(&mut window, TrainAction::ChatWith(spec.run));
    let (moving, setup) = window.take_prepares().remove(0);
    assert!(setup.vectors.iter().any(|it| it.file == half));
    window.fail(moving, crate::values::about(&half.display().to_string(), "It can't be read"));
    let (left, setup) = window.take_prepares().remove(0);
    assert!(setup.vectors.iter().all(|it| it.file != half), "it is set aside");
    window.answer(left, &JobSpec::Prepare(setup));
    window.answer_all();
    act(&mut window, TrainAction::ChatWith(spec.run));
    let (_, setup) = window.take_prepares().remove(0);
    assert!(setup.vectors.iter().any(|it| it.file == half && it.coefficient == 1.0));
    window.take_job(|spec| matches!(spec, JobSpec::Describe { path } if *path == half));
}

#[test]
fn half_trained_vector_is_no_result() {
    let (mut window, job, spec) = running(30);
    window.fact(job, Fact::Train(Box::new(paused(&spec, 30))));
    window.effects.clear();
    act(&mut window, TrainAction::AddToKnobs(spec.run));
    act(&mut window, TrainAction::SweepIt(spec.run));
    assert_eq!((window.settings().knobs.len(), window.settings().screen), (2, Screen::Train));
    // Nor when its run is lost.
    window.fail(job, UserError::new("The engine stopped", ""));
    assert_eq!(window.model.shown_training().and_then(|it| it.vector.clone()), None);
}

#[test]
fn runs_that_have_not_begun_are_kept_beyond_the_window_and_offered() {
    let (mut window, ..) = running(3);
    fill(&mut window, |form| form.set(TrainField::Epochs, "5"));
    let (second, waiting) = start(&mut window);
    assert_eq!(window.settings().trainings, std::slice::from_ref(&waiting));

    let mut later = Window::with(window.settings());
    assert!(later.model.offers().iter().any(|it| it.0.contains("medical was queued")));
    let kept = later.settings().trainings;
    assert_eq!(kept, std::slice::from_ref(&waiting), "until somebody says");
    act(&mut later, TrainAction::Begin(waiting.run));
    let (_, begun_now) = take_train(&mut later);
    assert_eq!(begun_now, TrainSpec { run: begun_now.run, ..waiting.clone() });
    assert_eq!(later.settings().trainings, [begun_now]);
    act(&mut later, TrainAction::Begin(waiting.run));
    assert!(!later.take_jobs().iter().any(|(_, spec)| is_train(spec)), "once");

    let mut later = Window::with(window.settings());
    act(&mut later, TrainAction::Forget(waiting.run));
    assert_eq!(later.settings().trainings, []);

    window.fact(second, Fact::Train(Box::new(begun(&waiting))));
    assert_eq!(window.settings().trainings, [], "the engine keeps it from here on");
}

#[test]
fn engine_that_is_lost_takes_no_queued_run_with_it_and_the_cut_off_one_is_told_of_again() {
    let mut window = set_up();
    lists_nothing(&mut window);
    let (job, train) = start(&mut window);
    window.fact(job, Fact::Train(Box::new(so_far(&train, 30))));
    let waiting = [3, 4].map(|epochs| {
        fill(&mut window, |form| form.set(TrainField::Epochs, epochs.to_string()));
        start(&mut window)
    });
    let jobs = waiting.each_ref().map(|(job, _)| *job);
    for job in [job].into_iter().chain(jobs) {
        window.fail(job, UserError::new("The engine stopped", ""));
    }
    window.apply(crate::values::lost("it was killed"));
    let kept = waiting.map(|(_, spec)| spec);
    assert_eq!(window.settings().trainings, kept);
    // The new engine finds the first as it was left.
    for (job, spec) in window.take_jobs() {
        if spec == JobSpec::ListTrainings {
            window.fact(job, Fact::Trainings(vec![summary(&so_far(&train, 30))]));
        }
        window.finish(job, Outcome::Done);
    }
    assert!(window.model.offers().iter().any(|it| it.0.contains("was cut off at step 30")));
    for spec in &kept {
        act(&mut window, TrainAction::Begin(spec.run));
        let (_, again) = take_train(&mut window);
        assert_eq!(again.settings, spec.settings);
    }
}

#[test]
fn run_that_is_refused_leads_back_to_the_form() {
    let mut window = set_up();
    fill(&mut window, |form| "/runs/one".clone_into(&mut form.out));
    let (job, spec) = start(&mut window);
    assert_eq!(spec.out, Some("/runs/one".into()));
    assert_eq!(window.model.train_form().out, "", "the next run can't have it");
    window.fail(job, UserError::new("The folder is not empty", "Name another"));
    assert_eq!(window.model.train_form().out, "/runs/one");
    window.apply(crate::values::hello());
    window.apply(crate::values::lost("much later"));
    assert_eq!(window.settings().trainings, [], "nobody waits for it");
}

#[test]
fn run_that_is_paused_lets_others_go_first_and_then_waits_for_them() {
    let (mut window, first, spec) = running(30);
    act(&mut window, TrainAction::Pause(first));
    window.fact(first, Fact::Train(Box::new(paused(&spec, 30))));
    let (second, other) = start(&mut window);
    assert!(!says(&window, "It begins when"), "it begins at once");
    window.fact(second, Fact::Train(Box::new(so_far(&other, 2))));
    assert_eq!(window.model.shown_training().map(|it| it.spec.run), Some(other.run));
    act(&mut window, TrainAction::GoOn(first));
    assert_eq!(jobs_of(&mut window), ["Training, waiting", "Training, waiting"]);
    window.apply(Event::Progress { job_id: first, stage: Stage::Training, done: 31, total: 60 });
    assert_eq!(jobs_of(&mut window), ["Training", "Training, waiting"]);
    start(&mut window);
    assert!(says(&window, "It begins when the runs before it have ended"));
}

#[test]
fn run_that_is_paused_before_it_has_begun_holds_and_goes_on() {
    let mut window = set_up();
    let (job, spec) = start(&mut window);
    window.apply(Event::Progress { job_id: job, stage: Stage::Loading, done: 1, total: 9 });
    act(&mut window, TrainAction::Pause(job));
    assert_eq!(jobs_of(&mut window), ["Training, paused"]);
    act(&mut window, TrainAction::Pause(job));
    act(&mut window, TrainAction::GoOn(job));
    let expected = [Command::Pause { job_id: job }, Command::GoOn { job_id: job }];
    assert_eq!(told(&mut window), expected);
    window.apply(Event::Progress { job_id: job, stage: Stage::Loading, done: 2, total: 9 });
    assert_eq!(jobs_of(&mut window), ["Training"]);
    // It had begun before it heard of the pause.
    act(&mut window, TrainAction::Pause(job));
    window.fact(job, Fact::Train(Box::new(begun(&spec))));
    window.fact(job, Fact::Train(Box::new(TrainRun { is_paused: true, ..begun(&spec) })));
    assert_eq!(jobs_of(&mut window), ["Training, paused"]);
    act(&mut window, TrainAction::GoOn(job));
    assert_eq!(told(&mut window).last(), Some(&Command::GoOn { job_id: job }));
}

#[test]
fn vector_of_a_run_that_is_only_listed_is_swept_on_the_test_file_of_its_data() {
    for is_there in [true, false] {
        let run = trained(&spec(3, "constraints"));
        let mut window = Window::ready();
        window.update(Action::Sweep(SweepAction::AddData("/other.jsonl".into())));
        window.command(UiCommand::ShowTrain);
        lists(&mut window, std::slice::from_ref(&run));
        window.answer_all();
        act(&mut window, TrainAction::SweepIt(run.spec.run));
        loads(&mut window, std::slice::from_ref(&run));
        assert_eq!(window.model.sweep_form().data, [] as [std::path::PathBuf; 0]);
        let test = std::path::PathBuf::from("/home/me/demo/constraints.test.jsonl");
        let (job, _) = window.take_job(|it| *it == JobSpec::InspectData { path: test.clone() });
        if is_there {
            window.fact(job, Fact::Data(Box::new(data(&test))));
            window.finish(job, Outcome::Done);
            assert_eq!(window.model.sweep_form().data, [test]);
        } else {
            window.fail(job, UserError::new("It is not there", ""));
            assert_eq!(window.model.sweep_form().data, [] as [std::path::PathBuf; 0]);
            assert!(says(&window, "There is no constraints.test.jsonl"));
        }
        assert_eq!(window.settings().screen, Screen::Sweep);
    }
}

#[test]
fn engine_that_is_lost_leaves_nothing_running() {
    let (mut window, job, train) = running(30);
    let (second, _) = start(&mut window);
    let err = || UserError::new("The engine stopped", "");
    for job in [job, second] {
        window.fail(job, err());
    }
    window.apply(crate::values::lost("it was killed"));
    window.update(Action::CloseRequested);
    assert!(window.effects.contains(&Effect::Quit), "nothing runs");
    act(&mut window, TrainAction::Resume(train.run));
    take_train(&mut window);
}

#[test]
fn run_without_a_checkpoint_goes_on_from_its_beginning() {
    let cut = so_far(&spec(3, "medical"), 5);
    assert_eq!(cut.checkpoint, None);
    let mut window = Window::new();
    lists(&mut window, std::slice::from_ref(&cut));
    assert_eq!(window.model.offers().len(), 1);
    act(&mut window, TrainAction::Resume(cut.spec.run));
    loads(&mut window, std::slice::from_ref(&cut));
    let (_, resumed) = take_train(&mut window);
    assert_eq!(resumed, TrainSpec { resume: true, ..cut.spec });
}

#[test]
fn run_that_was_cut_off_is_offered_once_at_the_start() {
    let cut = so_far(&spec(3, "medical"), 34);
    let mut window = Window::new();
    lists(&mut window, std::slice::from_ref(&cut));
    let offers = window.model.offers();
    assert_eq!(offers.len(), 1);
    assert!(offers[0].0.contains("medical was cut off at step 34 of 60"), "{offers:?}");
    window.update(offers[0].1.clone());
    assert_eq!(window.settings().screen, Screen::Train);
    loads(&mut window, std::slice::from_ref(&cut));
    let (_, resumed) = take_train(&mut window);
    assert_eq!(resumed, TrainSpec { resume: true, ..cut.spec.clone() });
    // The list still says that it computes: it does.
    window.command(UiCommand::ShowTrain);
    lists(&mut window, std::slice::from_ref(&cut));
    assert_eq!(window.model.offers().len(), 1, "it was not told twice");
}

#[test]
fn closing_counts_training_as_running_also_while_it_is_paused() {
    let (mut window, job, spec) = running(30);
    act(&mut window, TrainAction::Pause(job));
    window.fact(job, Fact::Train(Box::new(paused(&spec, 30))));
    window.update(Action::CloseRequested);
    assert!(!window.effects.contains(&Effect::Quit), "closing would lose something");
    let (waiting, _) = start(&mut window);
    let (answer, _) = window.ask("Are you there?");
    window.update(Action::Dialog(DialogAction::StopAndQuit));
    let cancelled = window.cancelled();
    assert!(cancelled.contains(&answer));
    assert!(!cancelled.contains(&job) && !cancelled.contains(&waiting), "it is kept as it is");
    assert_eq!(window.effects.last(), Some(&Effect::Quit));
}

#[test]
fn trained_vector_is_swept_on_the_test_file_of_its_data() {
    let (mut window, job, train) = running(60);
    window.fact(job, Fact::Train(Box::new(trained(&train))));
    window.finish(job, Outcome::Done);
    window.take_jobs();
    window.update(Action::Sweep(SweepAction::AddData("/other.jsonl".into())));
    window.take_jobs();
    act(&mut window, TrainAction::SweepIt(train.run));
    assert_eq!(window.settings().screen, Screen::Sweep);
    assert_eq!(window.model.sweep_form().data, [std::path::PathBuf::from(MEDICAL_DATA)]);
    window.answer_all();
    window.update(Action::Sweep(SweepAction::Start));
    let (_, sweep) = window.take_job(|spec| matches!(spec, JobSpec::Sweep(_)));
    let JobSpec::Sweep(sweep) = sweep else { panic!("{sweep:?}") };
    let swept = &sweep.setup.vectors[sweep.swept];
    assert!(swept.file.ends_with("vector.safetensors"), "{:?}", swept.file);
}

#[test]
fn cancelled_or_failed_run_keeps_its_curves_and_goes_on_as_the_same_run() {
    let err = UserError::new("The loss is no number", "Try a lower learning rate");
    for outcome in [Outcome::Failed(err), Outcome::Cancelled] {
        let (mut window, job, spec) = running(30);
        if outcome == Outcome::Cancelled {
            window.command(UiCommand::CancelTraining);
            assert_eq!(window.cancelled(), [job]);
        }
        window.finish(job, outcome.clone());
        assert_eq!(steps(&window).len(), 30, "{outcome:?}");
        assert_eq!(window.model.shown_training().map(|it| it.state), Some(RunState::Stopped));
        window.take_jobs();
        // Whatever the form says by now.
        fill(&mut window, |form| form.set(TrainField::Epochs, "7"));
        act(&mut window, TrainAction::Resume(spec.run));
        let (again, resumed) = take_train(&mut window);
        let out = so_far(&spec, 1).spec.out;
        assert_eq!(resumed, TrainSpec { resume: true, out, ..spec.clone() });
        // From its checkpoint; what came after it is trained again.
        window.fact(again, Fact::Train(Box::new(so_far(&resumed, 20))));
        window.fact(again, step_fact(&resumed, 21));
        assert_eq!(steps(&window).last(), Some(&21));
        act(&mut window, TrainAction::Resume(spec.run));
        assert!(!window.take_jobs().iter().any(|(_, spec)| is_train(spec)), "it runs");
    }
}
