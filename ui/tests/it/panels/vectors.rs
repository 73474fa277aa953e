use egui::Key;
use egui::accesskit::Role;
use egui_kittest::Harness;
use egui_kittest::kittest::{NodeT as _, Queryable as _};
use meav_protocol::{Event, Fact, FileKind, JobId, JobSpec, Outcome, Remedy, Stage, UserError};
use meav_ui::{
    Action, CompressMethod, DialogAction, Form, KnobAction, Screen, Settings, UiCommand,
};

use crate::hands::{Hands as _, engine_works, harness, harness_of};
use crate::support::{FINANCIAL, MEDICAL, Window, settings};
use crate::values::{about, comparison, loaded};

/// The Vectors screen of a window.
fn screen(mut window: Window) -> Harness<'static, Window> {
    window.command(UiCommand::ShowVectors);
    let mut harness = harness_of([1280.0, 1400.0], window);
    harness.run();
    harness
}

/// The screen with three vectors compared.
fn compared() -> Harness<'static, Window> {
    let mut window = Window::ready();
    window.update(Action::Open("/v/legal.safetensors".into(), FileKind::Vector));
    window.answer_all();
    let mut harness = screen(window);
    harness.press("Compare vectors");
    engine_works(&mut harness);
    harness
}

/// The screen after a dialog was filled in and its job has ended.
fn made(command: UiCommand, fill: impl FnOnce(&mut Form)) -> Harness<'static, Window> {
    let mut window = Window::ready();
    window.command(command);
    let mut form = window.model.form().expect("a form is open").clone();
    fill(&mut form);
    window.update(Action::Dialog(DialogAction::SetForm(Box::new(form))));
    window.update(Action::Dialog(DialogAction::Accept));
    window.answer_all();
    screen(window)
}

#[test]
fn tabs_lead_from_one_screen_to_the_other() {
    let mut harness = harness(Window::ready());
    harness.run();
    assert!(!harness.shows("Interference"));
    harness.get_by_role_and_label(Role::Tab, "Vectors").click();
    harness.run();
    assert!(harness.shows("Interference"));
    assert_eq!(harness.focused().as_deref(), Some("Vector medical"));
    assert_eq!(harness.state_mut().settings().screen, Screen::Vectors);
    harness.get_by_role_and_label(Role::Tab, "Chat").click();
    harness.run();
    assert_eq!(harness.focused().as_deref(), Some("Message"));
}

#[test]
fn screen_that_was_shown_last_is_shown_first() {
    let settings = Settings { screen: Screen::Vectors, ..settings() };
    let mut harness = harness(Window::ready_with(settings));
    harness.run();
    assert!(harness.shows("Interference"));
    assert_eq!(harness.focused().as_deref(), Some("Vector medical"));
}

#[test]
fn table_tells_what_each_vector_is() {
    let mut window = Window::ready();
    window.set_knob(FINANCIAL, -0.4);
    let (job, setup) = window.take_prepares()[0].clone();
    let mut model = loaded(&setup);
    model.vectors[0].base_matches = Some(false);
    model.vectors[1].base_matches = None;
    "sparse".clone_into(&mut model.vectors[1].kind);
    window.fact(job, Fact::Ready(Box::new(model)));
    window.finish(job, Outcome::Done);
    let harness = screen(window);
    for text in ["another base", "not said", "sparse", "−0.40", "210", "4.9 MB"] {
        assert!(harness.shows(text), "{text}");
    }
    assert!(harness.shows("Colour of financial"));
}

#[test]
fn vector_that_does_not_fit_says_why_on_the_screen() {
    let mut window = Window::ready();
    window.update(Action::PanelsShown(Vec::new()));
    window.command(UiCommand::ToggleKnobs);
    window.set_knob(FINANCIAL, 0.1);
    let (job, _) = window.take_prepares()[0];
    window.fail(job, about("financial", "The vector has other layers"));
    window.answer_all();
    window.update(Action::Knob(FINANCIAL, KnobAction::Select));
    window.answer_all();
    let harness = screen(window);
    assert!(harness.shows("does not fit"));
    assert!(harness.mentions("The vector has other layers"));
    let tick = harness.get_by_label("Take financial into comparisons");
    assert!(tick.accesskit_node().is_disabled());
}

#[test]
fn vectors_are_selected_by_pressing_them_and_by_arrow_keys() {
    let mut harness = screen(Window::ready());
    assert_eq!(harness.focused().as_deref(), Some("Vector medical"));
    harness.key(Key::ArrowDown);
    harness.run();
    assert_eq!(harness.focused().as_deref(), Some("Vector financial"));
    engine_works(&mut harness);
    let is_chosen = |harness: &Harness<'_, Window>, name: &str| {
        harness.get_by_role_and_label(Role::Button, name).accesskit_node().toggled()
            == Some(egui::accesskit::Toggled::True)
    };
    assert!(is_chosen(&harness, "Vector financial"));
    harness.key(Key::ArrowDown);
    assert_eq!(harness.focused().as_deref(), Some("Vector financial"), "it is the last");
    harness.press("Vector medical");
    assert!(is_chosen(&harness, "Vector medical"));
    assert!(!is_chosen(&harness, "Vector financial"));
}

#[test]
fn screen_without_vectors_says_how_to_get_some() {
    let settings = Settings { knobs: Vec::new(), ..Settings::default() };
    let mut harness = screen(Window::ready_with(settings));
    assert!(harness.mentions("None yet."));
    let compare = harness.get_by_role_and_label(Role::Button, "Compare vectors");
    assert!(compare.accesskit_node().is_disabled());
    harness.press("Import adapter…");
    assert!(harness.shows("Import adapter"));
}

#[test]
fn unticked_vector_is_left_out() {
    let mut window = Window::ready();
    window.update(Action::Open("/v/legal.safetensors".into(), FileKind::Vector));
    window.answer_all();
    let mut harness = screen(window);
    harness.get_by_label("Take financial into comparisons").click();
    harness.run();
    harness.press("Compare vectors");
    let (_, spec) =
        harness.state_mut().take_job(|spec| matches!(spec, JobSpec::CompareVectors { .. }));
    let vectors = vec!["medical".into(), "/v/legal.safetensors".into()];
    assert_eq!(spec, JobSpec::CompareVectors { vectors, base: Some("demo".into()) });
    assert!(harness.shows("Comparing…"));
}

#[test]
fn map_names_every_part_with_its_exact_values() {
    let mut harness = compared();
    // sin(0.5 + 1) · 0.4, and so on: see the values' own numbers.
    let cell = "layer 1, attention: cosine +0.3990, sign conflict 30.05 %, norm of medical 1.75, \
                norm of financial 2.75";
    assert!(harness.shows(cell), "no such cell");
    assert!(harness.mentions("outside, embeddings: "));
    harness.get_by_label("Sign conflict").click();
    harness.run();
    assert!(harness.shows(cell), "it is told the same");
    assert!(harness.mentions("50 % is what chance would give"));
    harness.get_by_label("Norms").click();
    harness.run();
    assert!(harness.shows("layer 1, attention, norm of medical 1.75"));
    harness.press("Norms of legal");
    assert!(harness.shows("layer 1, attention, norm of legal 3.75"));
}

#[test]
fn pair_is_chosen_in_the_matrix() {
    let mut harness = compared();
    let name = "financial and legal: cosine +0.0564, sign conflict 47.18 %";
    let cells = harness.query_all_by_label(name).count();
    assert_eq!(cells, 1, "the other is called legal and financial");
    harness.press(name);
    assert!(harness.mentions("norm of legal"));
    assert!(!harness.mentions("norm of medical"));
    harness.press("medical: norm 1.25");
    assert!(harness.shows("layer 0, attention, norm of medical 1.25"));
}

#[test]
fn comparison_is_exported_in_the_form_that_was_chosen() {
    let mut harness = compared();
    harness.press("Export PNG…");
    assert!(harness.shows("Export comparison"));
    harness.key(Key::Enter);
    let is_export = |spec: &JobSpec| matches!(spec, JobSpec::ExportComparison { .. });
    let (job, spec) = harness.state_mut().take_job(is_export);
    harness.state_mut().answer(job, &spec);
    engine_works(&mut harness);
    assert!(harness.mentions("comparison.png"), "where it is");
    assert!(!harness.shows("Export comparison"));
}

#[test]
fn failed_comparison_says_why() {
    let mut harness = screen(Window::ready());
    harness.press("Compare vectors");
    let (job, _) =
        harness.state_mut().take_job(|spec| matches!(spec, JobSpec::CompareVectors { .. }));
    harness.state_mut().fail(job, UserError::new("They have no tensor in common", "Leave one out"));
    harness.run();
    assert!(harness.shows("They have no tensor in common"));
    assert!(!harness.shows("Comparing…"));
}

#[test]
fn compression_is_reported_with_what_it_costs() {
    let mut harness = made(UiCommand::CompressVector, |form| {
        let Form::Compress(form) = form else { panic!("{form:?}") };
        (form.measures, form.data) = (true, "/data/test.jsonl".to_owned());
    });
    for text in [
        "Compressed: medical",
        "49.0 MB became 4.9 MB (10.0 times smaller)",
        "Relative error of the weights: 6.25 %",
        "Worst tensor: model.layers.3.mlp.up_proj.weight, 12.5 %",
        "Compression error grows with |λ|: on average 0.0100 nats per token at |λ| = 0.5, 0.0300 \
         at |λ| = 1.5.",
        "+0.0150",
        "1.2000",
    ] {
        assert!(harness.shows(text), "{text}");
    }
    harness.press("Replace the vector of medical");
    assert!(harness.shows("It is on a knob."));
    harness.press("Close the report");
    assert!(!harness.shows("Compressed: medical"));
}

#[test]
fn compression_that_was_not_measured_says_so() {
    let harness = made(UiCommand::CompressVector, |_| {});
    assert!(harness.mentions("was not measured"));
    assert!(!harness.mentions("Compression error"));
}

#[test]
fn separation_is_reported_layer_by_layer() {
    let mut harness = made(UiCommand::SeparateVector, |form| {
        let Form::Separate(form) = form else { panic!("{form:?}") };
        form.keeps_shared = true;
    });
    assert!(harness.mentions("12.3 % of its squared norm"));
    assert!(harness.mentions("Shared per layer: layer 0 5.0 %, layer 1 7.0 %"));
    assert!(harness.shows("Outside the layers: 1.0 %"));
    harness.press("Add the shared part to knobs");
    assert!(harness.shows("λ of medical-shared"));
    harness.press("Add to knobs");
    assert!(harness.shows("λ of medical-own"));
}

fn dialog(command: UiCommand) -> Harness<'static, Window> {
    let mut window = Window::ready();
    window.command(command);
    let mut harness = harness(window);
    harness.run();
    harness
}

#[track_caller]
fn begun(harness: &mut Harness<'_, Window>, button: &str) -> (JobId, JobSpec) {
    harness.press(button);
    harness
        .state_mut()
        .take_job(|spec| matches!(spec, JobSpec::ExtractVector(_) | JobSpec::CompressVector(_)))
}

#[test]
fn extraction_is_filled_in_with_the_keyboard() {
    let mut harness = dialog(UiCommand::ExtractVector);
    assert_eq!(harness.focused().as_deref(), Some("Aligned model"));
    let accept = harness.get_by_role_and_label(Role::Button, "Extract");
    assert!(accept.accesskit_node().is_disabled());
    assert!(harness.shows("Name the aligned model"));
    harness.types("/models/aligned");
    assert!(harness.shows("Give the domain a name"));
    harness.get_by_role_and_label(Role::TextInput, "Domain").focus();
    harness.run();
    harness.types("law");
    harness.get_by_label("Advanced").click();
    harness.run();
    harness.get_by_role_and_label(Role::TextInput, "Levels").focus();
    harness.run();
    harness.types("expert,avoidance");
    harness.key(Key::Enter);
    let is_it = |spec: &JobSpec| matches!(spec, JobSpec::ExtractVector(_));
    let (_, spec) = harness.state_mut().take_job(is_it);
    let JobSpec::ExtractVector(extract) = spec else { panic!("{spec:?}") };
    assert_eq!(extract.aligned, std::path::Path::new("/models/aligned"));
    assert_eq!((extract.domain.as_str(), extract.levels.len()), ("law", 2));
}

#[test]
fn compression_explains_its_methods() {
    let mut harness = dialog(UiCommand::CompressVector);
    for method in CompressMethod::ALL {
        harness.get_by_label(method.name()).click();
        harness.run();
        assert!(harness.shows(method.explanation()), "{method:?}");
    }
    let (_, spec) = begun(&mut harness, "Compress");
    let JobSpec::CompressVector(compress) = spec else { panic!("{spec:?}") };
    assert_eq!(compress.how, meav_protocol::Compression::Sign);
}

#[test]
fn progress_is_shown_in_the_dialog_and_the_job_can_be_stopped() {
    let mut harness = dialog(UiCommand::CompressVector);
    let (job, _) = begun(&mut harness, "Compress");
    let progress = Event::Progress { job_id: job, stage: Stage::Compressing, done: 1, total: 4 };
    harness.state_mut().apply(progress);
    harness.run();
    let bars = harness.query_all_by_role_and_label(Role::ProgressIndicator, "Compressing a vector");
    assert_eq!(bars.count(), 2, "in the dialog and in the status bar");
    harness.press("Stop");
    assert_eq!(harness.state().cancelled(), [job]);
    harness.state_mut().finish(job, Outcome::Cancelled);
    harness.run();
    let accept = harness.get_by_role_and_label(Role::Button, "Compress");
    assert!(!accept.accesskit_node().is_disabled(), "it can begin again");
}

#[test]
fn job_that_goes_on_in_the_background_is_in_the_status_bar() {
    let mut harness = dialog(UiCommand::CompressVector);
    let (job, _) = begun(&mut harness, "Compress");
    harness.press("Go on in the background");
    assert!(!harness.shows("Compress vector"));
    assert!(harness.shows("Cancel: Compressing a vector"));
    harness.types("Hello");
    let err = UserError::new("It is there already", "Choose another name");
    harness.state_mut().fail(job, UserError { remedy: Some(Remedy::Replace), ..err });
    harness.run();
    assert!(!harness.shows("Compress vector"), "nothing opens over what is typed");
    assert_eq!(harness.focused().as_deref(), Some("Message"));
    assert!(harness.shows("It is there already"));
    assert!(!harness.shows("Replace it"), "that is in the dialog");
    harness.press("Show");
    assert!(harness.shows("Compress vector"), "it is back");
    let (_, spec) = begun(&mut harness, "Replace it");
    let JobSpec::CompressVector(compress) = spec else { panic!("{spec:?}") };
    assert!(compress.out.replace);
}

#[test]
fn form_whose_knob_has_gone_says_so_until_another_is_chosen() {
    let mut harness = dialog(UiCommand::CompressVector);
    let (job, _) = begun(&mut harness, "Compress");
    harness.press("Go on in the background");
    harness.state_mut().update(Action::Knob(MEDICAL, KnobAction::Remove));
    harness.state_mut().fail(job, UserError::new("The disk is full", "Make room"));
    harness.run();
    harness.press("Show");
    assert!(harness.shows("The vector is no longer on a knob"));
    let accept = harness.get_by_role_and_label(Role::Button, "Compress");
    assert!(accept.accesskit_node().is_disabled());
    let mut form = harness.state().model.form().expect("a form is open").clone();
    let Form::Compress(compress) = &mut form else { panic!("{form:?}") };
    compress.knob = FINANCIAL;
    harness.state_mut().update(Action::Dialog(DialogAction::SetForm(Box::new(form))));
    harness.run();
    begun(&mut harness, "Compress");
}

#[test]
fn choices_are_announced_as_groups() {
    for (command, name) in [
        (UiCommand::ExtractVector, "Numbers"),
        (UiCommand::ImportAdapter, "Numbers"),
        (UiCommand::CompressVector, "Method"),
        (UiCommand::SeparateVector, "Shared with"),
        (UiCommand::ExportMerged, "Format"),
        (UiCommand::Settings, "Theme"),
    ] {
        let harness = dialog(command);
        let group = harness.get_by_role_and_label(Role::Group, name);
        assert!(group.children_recursive().count() > 1, "{command:?}");
    }
}

#[test]
fn file_that_is_there_is_replaced_from_the_dialog() {
    let mut harness = dialog(UiCommand::CompressVector);
    let (job, _) = begun(&mut harness, "Compress");
    let err = UserError::new("It is there already", "Choose another name");
    harness.state_mut().fail(job, UserError { remedy: Some(Remedy::Replace), ..err });
    harness.run();
    let (_, spec) = begun(&mut harness, "Replace it");
    let JobSpec::CompressVector(compress) = spec else { panic!("{spec:?}") };
    assert!(compress.out.replace);
}

#[test]
fn dropped_model_is_asked_about() {
    let mut window = Window::ready();
    window.update(Action::OpenPaths(vec!["/m/aligned.gguf".into()]));
    window.answer_all();
    let mut harness = harness(window);
    harness.run();
    assert!(harness.shows("That is a model"));
    assert_eq!(harness.focused().as_deref(), Some("Open as the model"));
    harness.press("Use as a vector (aligned − this model)");
    engine_works(&mut harness);
    assert!(harness.shows("λ of aligned"));
}

#[test]
fn comparison_of_nothing_is_shown_as_such() {
    let mut harness = screen(Window::ready());
    harness.press("Compare vectors");
    let is_it = |spec: &JobSpec| matches!(spec, JobSpec::CompareVectors { .. });
    let (job, _) = harness.state_mut().take_job(is_it);
    harness.state_mut().fact(job, Fact::Compared(comparison(&[])));
    harness.state_mut().finish(job, Outcome::Done);
    harness.run();
    for measure in ["Norms", "Sign conflict", "Cosine"] {
        harness.get_by_label(measure).click();
        harness.run();
    }
    assert!(harness.shows("Export CSV…"));
}

#[test]
fn page_keys_turn_the_screen() {
    let mut harness = compared();
    harness.set_size(egui::vec2(1280.0, 500.0));
    harness.run();
    let last = "layer 11, norms: ";
    assert!(!harness.mentions(last), "it is below");
    for _ in 0..3 {
        harness.key(Key::PageDown);
        harness.run();
    }
    assert!(harness.mentions(last));
    for _ in 0..3 {
        harness.key(Key::PageUp);
        harness.run();
    }
    assert!(!harness.mentions(last));
}

#[test]
fn vectors_of_one_domain_are_told_apart_by_their_files() {
    let mut window = Window::ready();
    window.update(Action::Open("/v/small.safetensors".into(), FileKind::Vector));
    window.answer_all();
    window.set_knob(FINANCIAL, 0.1);
    let (job, setup) = window.take_prepares()[0].clone();
    let mut model = loaded(&setup);
    "medical".clone_into(&mut model.vectors[2].domain);
    window.fact(job, Fact::Ready(Box::new(model)));
    window.finish(job, Outcome::Done);
    let mut harness = screen(window);
    for name in ["Vector medical (medical)", "Vector financial", "Vector medical (small)"] {
        assert!(harness.shows(name), "{name}");
    }
    harness.press("Compare vectors");
    let is_it = |spec: &JobSpec| matches!(spec, JobSpec::CompareVectors { .. });
    let (job, _) = harness.state_mut().take_job(is_it);
    let mut found = comparison(&["medical".into(), "/v/small.safetensors".into()]);
    "medical".clone_into(&mut found.vectors[1].domain);
    harness.state_mut().fact(job, Fact::Compared(found));
    harness.state_mut().finish(job, Outcome::Done);
    harness.run();
    assert!(harness.mentions("medical (medical) and medical (small.safetensors): cosine"));
}

#[test]
fn matrix_without_room_for_names_numbers_its_columns() {
    let names = ["a", "b", "c", "d"].map(|name| name.repeat(40));
    let mut window = Window::ready();
    for name in &names {
        let file = format!("/v/{name}.safetensors").into();
        window.update(Action::Open(file, FileKind::Vector));
        window.answer_all();
    }
    window.command(UiCommand::CompareVectors);
    window.answer_all();
    let mut harness = harness_of([1024.0, 1400.0], window);
    harness.run();
    for (index, name) in names.iter().enumerate() {
        let heading = (index + 3).to_string();
        assert!(harness.shows(&heading), "{heading}");
        let row = format!("{heading}  {name}");
        assert!(harness.shows(&row), "{row}");
        let pair = format!("medical and {name}: cosine");
        let cell = harness.get_by_label_contains(&pair).rect();
        assert!(cell.right() < 1024.0, "{pair} is at {cell}");
    }
}

#[test]
fn comparison_of_other_vectors_than_are_ticked_says_so() {
    let mut harness = compared();
    assert!(!harness.mentions("Other vectors are ticked now"));
    harness.get_by_label("Take financial into comparisons").click();
    harness.run();
    assert!(harness.mentions("Other vectors are ticked now"));
    harness.press("Compare vectors");
    engine_works(&mut harness);
    assert!(!harness.mentions("Other vectors are ticked now"));
    assert!(!harness.mentions("norm of financial"));
}

#[test]
fn what_the_keyboard_reaches_is_in_sight() {
    let mut harness = compared();
    harness.set_size(egui::vec2(1280.0, 500.0));
    harness.run();
    for name in ["Export SVG…", "Vector medical", "legal: norm 3.25", "Norms"] {
        harness.get_all_by_label(name).last().expect("it is there").focus();
        for _ in 0..20 {
            harness.run();
        }
        let rect = harness.get_all_by_label(name).last().expect("it is there").rect();
        assert!(rect.top() > 60.0 && rect.bottom() < 480.0, "{name} is at {rect}");
    }
}
