use meav_protocol::{Event, Fact, JobId, JobSpec, Outcome, RunState, Stage, Sweep, SweepSpec};
use meav_ui::{Action, KnobAction, Screen, Settings, SweepAction, UiCommand};
use uuid::Uuid;

use super::{compare, compare_of, settings};
use egui_kittest::kittest::Queryable as _;

use crate::hands::harness_of;
use crate::support::{FINANCIAL, MEDICAL, Window};
use crate::sweeps::{
    FINANCIAL_DATA, MEDICAL_DATA, SAFETY_DATA, begun, calibration, kept, point_fact, summary,
};

const SIZE: [f32; 2] = [1280.0, 1560.0];

/// The Sweep screen with room for two panels beside each other.
fn on_sweep() -> Settings {
    let mut settings = Settings { screen: Screen::Sweep, ..settings() };
    (settings.panels.chats, settings.panels.details) = (false, false);
    settings
}

fn act(window: &mut Window, action: SweepAction) {
    window.update(Action::Sweep(action));
}

fn set_up() -> Window {
    let mut window = Window::ready_with(on_sweep());
    for file in [MEDICAL_DATA, FINANCIAL_DATA] {
        act(&mut window, SweepAction::AddData(file.into()));
    }
    window.answer_all();
    let mut form = window.model.sweep_form().clone();
    "0.25".clone_into(&mut form.step);
    act(&mut window, SweepAction::SetForm(Box::new(form)));
    window
}

fn begin(window: &mut Window) -> (JobId, SweepSpec) {
    act(window, SweepAction::Start);
    match window.take_job(|spec| matches!(spec, JobSpec::Sweep(_))) {
        (job, JobSpec::Sweep(spec)) => (job, *spec),
        (_, other) => panic!("{other:?}"),
    }
}

/// The list of what was kept. The names of runs are not those of another day.
fn lists(window: &mut Window, sweeps: &[Sweep]) {
    window.command(UiCommand::ShowSweep);
    let (job, _) = window.take_job(|spec| *spec == JobSpec::ListSweeps);
    window.fact(job, Fact::Sweeps(sweeps.iter().map(summary).collect()));
    window.finish(job, Outcome::Done);
}

/// Half-way through: coarse points first.
fn running() -> Window {
    let mut window = set_up();
    let (job, spec) = begin(&mut window);
    window.fact(job, Fact::Sweep(Box::new(begun(&spec))));
    for lambda in [0.0, -1.5, 1.5, -0.75, 0.75, -1.25] {
        window.fact(job, point_fact(&spec, lambda));
    }
    let total = 1352;
    window.apply(Event::Progress { job_id: job, stage: Stage::Scoring, done: 624, total });
    window
}

/// Finished, with a point picked; the others are laid over it.
fn compared() -> Window {
    let mut window = Window::ready_with(on_sweep());
    let data = [MEDICAL_DATA, FINANCIAL_DATA, SAFETY_DATA];
    let mut sweeps =
        [kept(1, "medical", &data), kept(2, "financial", &data), kept(3, "legal", &data)];
    (sweeps[2].state, sweeps[2].points) = (RunState::Stopped, sweeps[2].points[..5].to_vec());
    sweeps[0].base_matches = Some(false);
    lists(&mut window, &sweeps);
    act(&mut window, SweepAction::Open(Uuid::from_u128(1)));
    act(&mut window, SweepAction::Compare(Uuid::from_u128(2), true));
    for (job, spec) in window.take_jobs() {
        if let JobSpec::LoadSweep { run } = spec {
            let sweep = sweeps.iter().find(|it| it.spec.run == run).expect("it was kept");
            window.fact(job, Fact::Sweep(Box::new(sweep.clone())));
        }
        window.finish(job, Outcome::Done);
    }
    act(&mut window, SweepAction::Pick(-0.75));
    act(&mut window, SweepAction::Matrix);
    window.answer_all();
    lists(&mut window, &sweeps);
    window.update(Action::FocusTaken);
    window
}

fn stacked() -> Window {
    let mut window = compared();
    act(&mut window, SweepAction::Stack(true));
    window
}

/// A swept knob, another one that was not, and one beyond what was swept.
fn calibrated() -> Window {
    let mut window = Window::ready_with(settings());
    let calibrations = [("medical", 1.5), ("financial", 0.5)].map(|(vector, last)| {
        let mut spec = kept(1, vector, &[MEDICAL_DATA]).spec;
        spec.range.last = last;
        calibration(&spec)
    });
    window.update(Action::Open("/v/legal.safetensors".into(), meav_protocol::FileKind::Vector));
    window.answer_all();
    window.set_knob(MEDICAL, -0.7);
    window.answer_all();
    window.set_knob(FINANCIAL, 0.9);
    let (job, setup) = window.take_prepares()[0].clone();
    let mut model = crate::values::loaded(&setup);
    for (info, calibration) in model.vectors.iter_mut().zip(calibrations) {
        info.calibration = Some(Box::new(calibration));
    }
    window.fact(job, Fact::Ready(Box::new(model)));
    window.finish(job, Outcome::Done);
    window.answer_all();
    window.update(Action::Knob(MEDICAL, KnobAction::Select));
    window.answer_all();
    window
}

#[test]
fn running_sweep_looks_as_it_did() {
    compare_of(SIZE, "sweep_running", running());
}

#[test]
fn compared_sweeps_look_as_they_did() {
    compare_of(SIZE, "sweep_compared", compared());
}

#[test]
fn stacked_sweep_looks_as_it_did() {
    compare_of(SIZE, "sweep_stacked", stacked());
}

#[test]
fn empty_sweep_screen_looks_as_it_did() {
    let settings = Settings { screen: Screen::Sweep, ..settings() };
    compare("sweep_empty", Window::ready_with(settings));
}

#[test]
fn calibrated_knobs_look_as_they_did() {
    compare("calibrated_knobs", calibrated());
}

/// A sweep that was cut off, and the question whether a calibration may be written.
fn offers() -> Window {
    let mut cut = kept(3, "legal", &[MEDICAL_DATA]);
    (cut.state, cut.points) = (RunState::Running, cut.points[..4].to_vec());
    let mut window = Window::with(settings());
    window.apply(crate::values::hello());
    let (job, _) = window.take_job(|spec| *spec == JobSpec::ListSweeps);
    window.fact(job, Fact::Sweeps(vec![summary(&cut)]));
    window.finish(job, Outcome::Done);
    window.answer_all();
    act(&mut window, SweepAction::AddData(MEDICAL_DATA.into()));
    window.answer_all();
    act(&mut window, SweepAction::Start);
    window.answer_all();
    window
}

fn write_calibration() -> Window {
    let mut window = calibrated();
    window.update(Action::Knob(MEDICAL, KnobAction::AskCalibration));
    window
}

#[test]
fn offers_of_sweeps_look_as_they_did() {
    compare("sweep_offers", offers());
}

#[test]
fn question_about_a_calibration_looks_as_it_did() {
    compare("write_calibration", write_calibration());
}

#[test]
fn values_under_the_pointer_look_as_they_did() {
    let options = egui_kittest::SnapshotOptions::new().threshold(0.6).max_failed_pixels(10);
    let mut harness = harness_of([1280.0, 900.0], compared());
    harness.run();
    let plot = harness.get_by_label_contains("Curves of medical.test.jsonl").rect();
    harness.hover_at(plot.center() + egui::vec2(60.0, 0.0));
    harness.run();
    harness.snapshot_options("sweep_hover", &options);
}
