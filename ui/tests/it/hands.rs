use egui::accesskit::Role;
use egui::{Event, Key, Modifiers, MouseWheelSource, MouseWheelUnit, TouchPhase, vec2};
use egui_kittest::Harness;
use egui_kittest::kittest::{NodeT as _, Queryable as _};
use meav_ui::{UiCommand, app_ui, apply_style};

use crate::support::Window;

/// A harness that shows the window and feeds back what the user does.
pub(crate) fn harness(window: Window) -> Harness<'static, Window> {
    harness_of([1280.0, 800.0], window)
}

pub(crate) fn harness_of(size: [f32; 2], window: Window) -> Harness<'static, Window> {
    let builder = Harness::builder().with_size(size).with_context_setup(apply_style);
    builder.with_max_steps(8).with_step_dt(0.05).build_ui_state(
        |ui, window: &mut Window| {
            window.now = ui.input(|input| input.time);
            window.tick();
            for action in app_ui(ui, &window.model) {
                window.update(action);
            }
        },
        window,
    )
}

/// A screen, `height` points high, with all that it asks of the engine.
pub(crate) fn screen(
    command: UiCommand,
    height: f32,
    mut window: Window,
) -> Harness<'static, Window> {
    window.command(command);
    window.answer_all();
    let mut harness = harness_of([1280.0, height], window);
    harness.run();
    harness
}

/// The engine does what it has been asked for.
pub(crate) fn engine_works(harness: &mut Harness<'_, Window>) {
    harness.state_mut().answer_all();
    harness.run();
}

/// Whether a button is out of use.
pub(crate) fn is_disabled(harness: &Harness<'_, Window>, button: &str) -> bool {
    harness.get_by_role_and_label(Role::Button, button).accesskit_node().is_disabled()
}

/// What the window says: names, texts, and what stands in fields.
pub(crate) fn seen(window: &mut Window) -> String {
    let mut harness = harness_of([1280.0, 2400.0], std::mem::replace(window, Window::new()));
    harness.run();
    let mut words = Vec::new();
    for node in harness.root().children_recursive() {
        let node = node.accesskit_node();
        // A text's lines are nodes, too.
        if node.role() != Role::TextRun {
            words.extend(node.label().filter(|label| Some(label) != node.value().as_ref()));
            words.extend(node.value());
        }
    }
    std::mem::swap(harness.state_mut(), window);
    words.join("\n")
}

/// A turn of the wheel.
pub(crate) fn wheel(unit: MouseWheelUnit, by: f32, modifiers: Modifiers) -> Event {
    let (phase, source) = (TouchPhase::Move, MouseWheelSource::Unknown);
    Event::MouseWheel { unit, delta: vec2(0.0, by), phase, source, modifiers }
}

/// What a test does with the window that is shown.
pub(crate) trait Hands {
    /// Presses what has this name, of which there is one.
    fn press(&mut self, label: &str);
    /// Presses keys.
    fn keys(&mut self, modifiers: Modifiers, key: Key);
    /// Presses a key.
    fn key(&mut self, key: Key);
    /// Types into what has the keyboard.
    fn types(&mut self, text: &str);
    /// Whether something has this name or says this.
    fn shows(&self, label: &str) -> bool;
    /// Whether something's name or text has these words in it.
    fn mentions(&self, words: &str) -> bool;
    /// λ that a knob shows.
    fn knob(&self, name: &str) -> f64;
    /// What has the keyboard: its name, or its text.
    fn focused(&self) -> Option<String>;
}

impl Hands for Harness<'_, Window> {
    #[track_caller]
    fn press(&mut self, label: &str) {
        self.get_by_role_and_label(Role::Button, label).click();
        self.run();
    }

    #[track_caller]
    fn keys(&mut self, modifiers: Modifiers, key: Key) {
        self.key_press_modifiers(modifiers, key);
        self.run();
    }

    #[track_caller]
    fn key(&mut self, key: Key) {
        self.key_press(key);
        self.run();
    }

    #[track_caller]
    fn types(&mut self, text: &str) {
        self.event(Event::Text(text.to_owned()));
        self.run();
    }

    fn shows(&self, label: &str) -> bool {
        self.query_all_by_label(label).next().is_some()
    }

    fn mentions(&self, words: &str) -> bool {
        self.query_all_by_label_contains(words).next().is_some()
    }

    #[track_caller]
    fn knob(&self, name: &str) -> f64 {
        let label = format!("λ of {name}");
        let knob = self.get_by_role_and_label(Role::Slider, &label);
        knob.accesskit_node().numeric_value().expect("a knob has a value")
    }

    fn focused(&self) -> Option<String> {
        let mut nodes = self.root().children_recursive();
        let node = nodes.find(egui_kittest::Node::is_focused)?.accesskit_node();
        node.label()
            .or_else(|| node.data().placeholder().map(str::to_owned))
            .or_else(|| node.value())
    }
}
