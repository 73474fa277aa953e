use meav_protocol::{Dtype, Event, Fact, JobSpec, MergeSpec, Outcome, Stage, UserError};
use meav_ui::{
    Action, ChatAction, DialogAction, Effect, Settings, SweepAction, SweepForm, UiCommand,
};

use crate::hands::{Hands as _, harness, seen};
use crate::support::{MEDICAL, Window};
use crate::values::{hello, lost, on_cpu, on_gpu, reply};

fn engine_stopped() -> UserError {
    UserError::new("The engine stopped", "Try again")
}

#[test]
fn engine_that_is_lost_is_given_the_setup_again_once() {
    let mut window = Window::ready();
    window.set_knob(MEDICAL, 0.7);
    window.answer_all();
    window.now = 100.0;
    window.apply(lost("it was killed"));
    let (job, setup) = window.take_prepares()[0].clone();
    assert_eq!(setup.vectors[0].coefficient, 0.7);
    window.apply(hello());
    window.answer(job, &JobSpec::Prepare(setup));
    assert_eq!(window.take_prepares(), []);
}

#[test]
fn engine_lost_twice_within_moments_is_not_started_again_by_itself() {
    let mut window = Window::ready();
    window.now = 100.0;
    window.apply(lost("out of memory"));
    let (job, _) = window.take_prepares()[0];
    window.now = 105.0;
    window.fail(job, engine_stopped());
    window.apply(lost("out of memory"));
    assert_eq!(window.take_prepares(), []);
    window.tick();
    assert_eq!(window.take_prepares(), []);
    window.update(Action::Retry);
    assert_eq!(window.take_prepares().len(), 1);
}

#[test]
fn engine_that_leaves_the_gpu_says_why() {
    let mut window = Window::ready();
    let told =
        |window: &mut Window| seen(window).contains("The engine runs on the CPU now: it crashed");
    window.apply(on_cpu("it crashed", true));
    assert!(!told(&mut window), "it never was elsewhere");
    window.apply(on_gpu());
    window.apply(on_cpu("it crashed", false));
    assert!(!told(&mut window), "it was told to");
    window.apply(on_gpu());
    window.apply(on_cpu("it crashed", true));
    assert!(told(&mut window));
}

#[test]
fn what_is_measured_and_trained_is_rounded_as_suits_the_device() {
    let dtypes =
        |window: &Window| [window.model.sweep_form().dtype, window.model.train_form().dtype];
    let mut window = Window::ready();
    assert_eq!(dtypes(&window), [Dtype::F32; 2]);
    window.apply(on_gpu());
    assert_eq!(dtypes(&window), [Dtype::Bf16; 2]);
    assert_eq!(window.settings().dtype, Dtype::Bf16);
    let sweep = SweepForm { dtype: Dtype::F32, ..window.model.sweep_form().clone() };
    window.update(Action::Sweep(SweepAction::SetForm(Box::new(sweep))));
    window.apply(on_gpu());
    assert_eq!(dtypes(&window), [Dtype::F32, Dtype::Bf16], "what was chosen stays");
    window.apply(on_cpu("it crashed", true));
    assert_eq!(dtypes(&window), [Dtype::F32; 2]);
    assert_eq!(window.settings().dtype, Dtype::Bf16, "the chat's is the user's");
}

#[test]
fn engine_that_ran_for_a_while_is_trusted_again() {
    let mut window = Window::ready();
    for now in [100.0, 200.0, 300.0] {
        window.now = now;
        window.apply(lost("it was killed"));
        window.apply(hello());
        let prepared = window.take_prepares();
        assert_eq!(prepared.len(), 1, "at {now} s");
        window.answer(prepared[0].0, &JobSpec::Prepare(prepared[0].1.clone()));
    }
}

#[test]
fn engine_lost_in_mid_answer_keeps_what_there_is_and_takes_the_next_message() {
    let mut window = Window::ready();
    let (job, _) = window.ask("One?");
    window.say(job, "Half an");
    window.now = 100.0;
    window.fail(job, engine_stopped());
    window.apply(lost("it was killed"));
    window.answer_all();
    let (_, turn) = window.ask("Two?");
    assert_eq!(turn.messages[1].content, "Half an");
    assert_eq!(turn.messages[1].state, meav_protocol::MessageState::Partial);
    assert_eq!(turn.messages[2].content, "Two?");
}

#[test]
fn engine_whose_channel_is_full_fails_the_job_and_is_not_flooded() {
    let mut window = Window::ready();
    window.set_knob(MEDICAL, 0.5);
    let (job, _) = window.take_prepares()[0];
    window.update(Action::EngineUnavailable(job, "it is busy".to_owned()));
    assert_eq!(window.take_prepares(), []);
    let (job, _) = window.ask("One?");
    window.update(Action::EngineUnavailable(job, "it is busy".to_owned()));
    window.take_jobs();
    window.chat(ChatAction::SetDraft("Two?".to_owned()));
    window.chat(ChatAction::Send);
    assert_eq!(window.take_turn().1.messages.len(), 1);
}

#[test]
fn window_without_long_jobs_closes_at_once() {
    let mut window = Window::ready();
    window.update(Action::CloseRequested);
    assert!(matches!(window.effects[..], [Effect::SaveSettings(_), Effect::Quit]));
}

#[test]
fn window_that_loads_a_model_closes_at_once() {
    let mut window = Window::new();
    window.command(UiCommand::Quit);
    assert_eq!(window.effects.last(), Some(&Effect::Quit));
}

#[test]
fn window_with_a_running_answer_asks_before_it_closes() {
    let mut window = Window::ready();
    let (job, _) = window.ask("One?");
    window.effects.clear();
    window.update(Action::CloseRequested);
    assert_eq!(window.effects, []);
    window.update(Action::Dialog(DialogAction::Close));
    assert_eq!(window.effects, []);
    window.command(UiCommand::Quit);
    window.update(Action::Dialog(DialogAction::StopAndQuit));
    assert_eq!(window.cancelled(), [job]);
    assert_eq!(window.effects.last(), Some(&Effect::Quit));
}

#[test]
fn window_that_waits_to_close_closes_when_the_job_has_ended() {
    let mut window = Window::ready();
    let (job, turn) = window.ask("One?");
    window.update(Action::CloseRequested);
    window.effects.clear();
    window.fact(job, Fact::Reply(reply(&turn.setup, "Yes.")));
    window.finish(job, Outcome::Done);
    assert!(window.effects.contains(&Effect::Quit));
}

#[test]
fn weights_that_the_engine_dropped_are_not_shown_as_held() {
    let mut window = Window::ready();
    window.update(Action::SetDtype(Dtype::F32));
    let (job, _) = window.take_job(|spec| matches!(spec, JobSpec::Prepare(_)));
    window.fact(job, Fact::Unloaded);
    window.fail(job, UserError::new("The model needs 9 GB of memory", "Choose bf16"));
    let mut harness = harness(window);
    harness.run();
    assert!(harness.shows("nothing yet") && !harness.shows("as set"));
}

#[test]
fn engine_that_never_gets_ready_is_started_again_once_only() {
    let mut window = Window::new();
    for secs in [100.0, 200.0, 300.0] {
        window.now = secs;
        window.take_jobs();
        window.apply(lost("it was killed"));
    }
    assert_eq!(window.take_prepares(), []);
}

#[test]
fn window_that_keeps_running_is_hidden_and_comes_back() {
    let mut window = Window::ready();
    let (job, turn) = window.ask("One?");
    window.effects.clear();
    window.update(Action::CloseRequested);
    window.update(Action::Dialog(DialogAction::KeepRunning));
    assert_eq!(window.effects, [Effect::HideWindow]);
    window.now = 60.0;
    window.answer(job, &JobSpec::Chat(turn));
    let notices: Vec<_> = notifications(&window);
    assert_eq!(notices, [("Answering".to_owned(), "Done".to_owned())]);
    window.update(Action::ShowWindow);
    assert_eq!(window.effects.last(), Some(&Effect::ShowWindow));
}

fn notifications(window: &Window) -> Vec<(String, String)> {
    let effects = window.effects.iter();
    effects
        .filter_map(|effect| match effect {
            Effect::Notify { title, body } => Some((title.clone(), body.clone())),
            _ => None,
        })
        .collect()
}

/// Has a message answered in so many seconds, and gives back what the desktop was told.
fn told_after(window: &mut Window, secs: f64, outcome: Outcome) -> Vec<(String, String)> {
    window.effects.clear();
    let (job, _) = window.ask("One?");
    window.now += secs;
    window.finish(job, outcome);
    notifications(window)
}

#[test]
fn desktop_is_told_of_long_jobs_that_nobody_watches() {
    let mut window = Window::ready();
    assert_eq!(told_after(&mut window, 60.0, Outcome::Done), [], "someone watches");
    window.update(Action::Focused(false));
    assert_eq!(told_after(&mut window, 3.0, Outcome::Done), [], "it was short");
    assert_eq!(told_after(&mut window, 60.0, Outcome::Cancelled), [], "someone ended it");
    assert_eq!(told_after(&mut window, 60.0, Outcome::Done).len(), 1);
    let failed = told_after(&mut window, 60.0, Outcome::Failed(engine_stopped()));
    assert_eq!(failed[0].1, "Failed: The engine stopped");
    window.update(Action::SetNotifications(false));
    assert_eq!(told_after(&mut window, 60.0, Outcome::Done), [], "it is not wanted");
    window.update(Action::SetNotifications(true));
    window.update(Action::Focused(true));
    assert_eq!(told_after(&mut window, 60.0, Outcome::Done), []);
}

#[test]
fn tray_has_a_line_for_each_long_job_and_is_told_only_of_changes() {
    let mut window = Window::ready();
    let lines = |window: &mut Window| {
        window.tick();
        let effects = window.effects.drain(..).collect::<Vec<_>>().into_iter();
        effects
            .filter_map(|effect| match effect {
                Effect::ShowJobs(lines) => Some(lines),
                _ => None,
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(lines(&mut window), [] as [Vec<String>; 0]);
    let (job, _) = window.ask("One?");
    assert_eq!(lines(&mut window), [["Answering"]]);
    window.apply(Event::Progress { job_id: job, stage: Stage::ReadingPrompt, done: 1, total: 2 });
    assert_eq!(lines(&mut window), [] as [Vec<String>; 0]);
    window.update(Action::FetchDemo);
    assert_eq!(lines(&mut window), [["Answering", "Fetching the demo model"]]);
    window.finish(job, Outcome::Done);
    assert_eq!(lines(&mut window), [["Fetching the demo model"]]);
}

#[test]
fn exported_model_is_what_the_knobs_say() {
    let mut window = Window::ready();
    window.set_knob(MEDICAL, 0.7);
    window.command(UiCommand::ExportMerged);
    window.update(Action::Dialog(DialogAction::SetText("/out/merged".to_owned())));
    window.update(Action::Dialog(DialogAction::Accept));
    let (_, spec) = window.take_job(|spec| matches!(spec, JobSpec::Merge(_)));
    let JobSpec::Merge(MergeSpec { model, vectors, dtype, out, .. }) = spec else { unreachable!() };
    assert_eq!(model, Settings::default().model);
    assert_eq!(vectors[0].coefficient, 0.7);
    assert_eq!(dtype, Some(Dtype::Bf16), "the recipe of the window");
    assert_eq!(out.path, std::path::Path::new("/out/merged"));
    window.update(Action::CloseRequested);
    assert!(!window.effects.contains(&Effect::Quit), "the export would be lost");
}
