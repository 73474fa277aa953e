use meav_protocol::{Dtype, JobSpec, Scope, StampTerm};
use meav_ui::{Action, DialogAction, KnobAction, Preset, Slot, UiCommand};

use crate::support::{FINANCIAL, MEDICAL, Window};
use crate::values::stamp;

#[test]
fn each_side_has_its_own_values() {
    let mut window = Window::ready();
    window.set_knob(MEDICAL, 0.7);
    window.command(UiCommand::FlipSlots);
    assert_eq!(window.coefficients(), [0.0, 0.0]);
    window.set_knob(MEDICAL, -0.7);
    window.update(Action::Knob(FINANCIAL, KnobAction::SetBypassed(true)));
    window.update(Action::Flip(Slot::A));
    assert_eq!(window.coefficients(), [0.7, 0.0]);
    let kept = window.settings();
    assert_eq!(kept.slot, Slot::A);
    assert_eq!(kept.knobs[0].coefficients, [0.7, -0.7]);
    assert_eq!(kept.knobs[1].bypassed, [false, true]);
}

#[test]
fn flipping_moves_the_weights_and_back() {
    let mut window = Window::ready();
    window.set_knob(MEDICAL, 0.7);
    window.answer_all();
    window.command(UiCommand::FlipSlots);
    let (job, setup) = window.take_prepares()[0].clone();
    assert_eq!(setup.vectors[0].coefficient, 0.0);
    window.answer(job, &JobSpec::Prepare(setup));
    window.command(UiCommand::FlipSlots);
    assert_eq!(window.take_prepares()[0].1.vectors[0].coefficient, 0.7);
}

#[test]
fn copied_side_is_the_same_as_the_one_in_use() {
    let mut window = Window::ready();
    window.set_knob(MEDICAL, 0.7);
    window.update(Action::Knob(FINANCIAL, KnobAction::SetBypassed(true)));
    window.command(UiCommand::CopySlot);
    let kept = window.settings();
    assert_eq!(kept.knobs[0].coefficients, [0.7, 0.7]);
    assert_eq!(kept.knobs[1].bypassed, [true, true]);
    assert_eq!(kept.slot, Slot::A);
}

#[test]
fn base_sets_this_side_to_zero_and_takes_every_vector_in() {
    let mut window = Window::ready();
    window.set_knob(MEDICAL, 0.7);
    window.command(UiCommand::CopySlot);
    window.update(Action::Knob(FINANCIAL, KnobAction::SetBypassed(true)));
    window.command(UiCommand::Base);
    let kept = window.settings();
    assert_eq!(kept.knobs[0].coefficients, [0.0, 0.7]);
    assert_eq!(kept.knobs[1].bypassed, [false, false]);
}

fn save_preset(window: &mut Window, name: &str) {
    window.command(UiCommand::SavePreset);
    window.update(Action::Dialog(DialogAction::SetText(name.to_owned())));
    window.update(Action::Dialog(DialogAction::Accept));
}

#[test]
fn preset_keeps_what_is_in_the_recipe_and_brings_it_back() {
    let mut window = Window::ready();
    window.set_knob(MEDICAL, 0.7);
    window.set_knob(FINANCIAL, 0.3);
    window.update(Action::Knob(FINANCIAL, KnobAction::SetBypassed(true)));
    save_preset(&mut window, " Careful doctor ");
    let preset = window.settings().presets[0].clone();
    assert_eq!(preset.name, "Careful doctor");
    assert_eq!(preset.terms, [("medical".into(), 0.7)]);
    window.set_knob(MEDICAL, -1.0);
    window.update(Action::ApplyPreset(preset));
    assert_eq!(window.coefficients(), [0.7, 0.0]);
}

#[test]
fn preset_of_the_same_name_is_replaced_and_one_can_be_deleted() {
    let mut window = Window::ready();
    window.set_knob(MEDICAL, 0.7);
    save_preset(&mut window, "one");
    window.set_knob(MEDICAL, 0.8);
    save_preset(&mut window, "one");
    save_preset(&mut window, "two");
    let names = |window: &mut Window| {
        let presets = window.settings().presets.into_iter();
        presets.map(|preset| (preset.name, preset.terms[0].1)).collect::<Vec<_>>()
    };
    assert_eq!(names(&mut window), [("one".to_owned(), 0.8), ("two".to_owned(), 0.8)]);
    window.update(Action::DeletePreset(0));
    window.update(Action::DeletePreset(7));
    assert_eq!(names(&mut window), [("two".to_owned(), 0.8)]);
}

#[test]
fn preset_without_a_name_is_not_kept() {
    let mut window = Window::ready();
    save_preset(&mut window, "  ");
    assert_eq!(window.settings().presets, []);
}

#[test]
fn preset_brings_vectors_that_are_on_no_knob() {
    let mut window = Window::ready();
    let terms = vec![("/vectors/legal.safetensors".into(), 0.4), ("medical".into(), 9.0)];
    window.update(Action::ApplyPreset(Preset {
        name: "law".to_owned(),
        terms,
        ..Preset::default()
    }));
    // In its order, which is part of the recipe.
    assert_eq!(window.coefficients(), [0.4, 1.5, 0.0]);
}

#[test]
fn stamp_of_an_answer_sets_the_knobs_to_its_recipe() {
    let mut window = Window::ready();
    window.set_knob(MEDICAL, 0.7);
    let turn = window.ask_and_answer("Hello?");
    let recipe = stamp(&turn.setup);
    window.set_knob(MEDICAL, -1.0);
    window.set_knob(FINANCIAL, 1.0);
    window.update(Action::SetDtype(Dtype::F32));
    window.update(Action::ApplyRecipe(Box::new(recipe)));
    assert_eq!(window.coefficients(), [0.7, 0.0]);
    assert_eq!(window.settings().dtype, Dtype::Bf16);
}

#[test]
fn stamp_finds_its_vector_by_content_and_adds_one_that_is_on_no_knob() {
    let mut window = Window::ready();
    let turn = window.ask_and_answer("Hello?");
    let mut recipe = stamp(&turn.setup);
    let term = |file: &str, fingerprint: &str, coefficient| StampTerm {
        domain: file.to_owned(),
        file: file.into(),
        fingerprint: fingerprint.to_owned(),
        coefficient,
        scope: Scope::default(),
    };
    // The engine tells of `medical` by another path than the knob has.
    recipe.vectors = vec![
        term("/data/medical.safetensors", "blake3:medical", 0.2),
        term("/vectors/legal.safetensors", "blake3:other", -0.3),
    ];
    window.update(Action::ApplyRecipe(Box::new(recipe)));
    assert_eq!(window.coefficients(), [0.2, -0.3, 0.0]);
    let files: Vec<_> = window.settings().knobs.into_iter().map(|knob| knob.file).collect();
    assert_eq!(files[1], std::path::Path::new("/vectors/legal.safetensors"));
}

#[test]
fn stamp_brings_back_the_order_of_the_sum() {
    let mut window = Window::ready();
    window.set_knob(MEDICAL, 0.7);
    window.set_knob(FINANCIAL, 0.3);
    window.update(Action::Knob(FINANCIAL, KnobAction::Move(-1)));
    let turn = window.ask_and_answer("Hello?");
    let recipe = stamp(&turn.setup);
    window.update(Action::Knob(MEDICAL, KnobAction::Move(-1)));
    window.update(Action::ApplyRecipe(Box::new(recipe)));
    assert_eq!(window.coefficients(), [0.3, 0.7]);
}

#[test]
fn dtype_is_part_of_what_is_prepared() {
    let mut window = Window::ready();
    window.update(Action::SetDtype(Dtype::F32));
    assert_eq!(window.take_prepares()[0].1.dtype, Dtype::F32);
    assert_eq!(window.settings().dtype, Dtype::F32);
}
