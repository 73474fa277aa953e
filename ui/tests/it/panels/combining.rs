use egui::accesskit::Role;
use egui::{Key, Modifiers};
use egui_kittest::Harness;
use egui_kittest::kittest::{NodeT as _, Queryable as _};
use meav_protocol::{Method, ModuleKind, Scope};
use meav_ui::{Action, KnobAction};

use crate::hands::{Hands as _, harness, harness_of};
use crate::support::{MEDICAL, Window, settings};

fn method(harness: &mut Harness<'_, Window>) -> Method {
    harness.state_mut().settings().methods[0]
}

fn scope(harness: &mut Harness<'_, Window>) -> Scope {
    harness.state_mut().settings().knobs[0].scopes[0].clone()
}

/// Types a number into a field that has this name.
fn type_number(harness: &mut Harness<'_, Window>, name: &str, text: &str) {
    harness.get_by_label(name).click();
    harness.run();
    harness.types(text);
    harness.key(Key::Enter);
}

#[test]
fn method_and_its_settings_are_chosen_above_the_knobs() {
    let mut harness = harness(Window::ready());
    harness.press("Combine vectors by Task arithmetic");
    assert!(harness.shows("λ is used as it is set, never normalised."));
    harness.press("TIES");
    assert_eq!(method(&mut harness), Method::Ties { density: 0.2 });
    let density = "Density: the share of each tensor's elements that is kept";
    type_number(&mut harness, density, "0,35");
    assert_eq!(method(&mut harness), Method::Ties { density: 0.35 });
    harness.press("Combine vectors by TIES");
    harness.press("TIES");
    assert_eq!(method(&mut harness), Method::Ties { density: 0.35 }, "it was chosen already");
    harness.press("Combine vectors by TIES");
    harness.press("DARE");
    type_number(&mut harness, "The share of elements that is dropped", "0.9");
    type_number(&mut harness, "Seed: the same one drops the same elements", "7");
    assert_eq!(method(&mut harness), Method::Dare { drop: 0.9, seed: 7 });
    type_number(&mut harness, "The share of elements that is dropped", "1");
    assert_eq!(method(&mut harness), Method::Dare { drop: 0.999, seed: 7 }, "not all of them");
    harness.press("New seed");
    assert!(matches!(method(&mut harness), Method::Dare { seed, .. } if seed != 7));
    harness.press("Side B");
    assert!(harness.shows("Combine vectors by Task arithmetic"), "each side has its own");
}

#[test]
fn method_is_chosen_with_the_keyboard() {
    let mut harness = harness(Window::ready());
    harness.get_by_label("Combine vectors by Task arithmetic").focus();
    harness.run();
    harness.key(Key::Enter);
    harness.get_by_role_and_label(Role::Button, "DARE").focus();
    harness.run();
    harness.key(Key::Enter);
    assert!(matches!(method(&mut harness), Method::Dare { .. }));
}

#[test]
fn recipe_names_a_method_that_is_not_the_usual_one() {
    let mut window = Window::ready();
    window.set_knob(MEDICAL, 0.7);
    window.update(Action::SetMethod(Method::Ties { density: 0.3 }));
    window.answer_all();
    let mut harness = harness(window);
    harness.run();
    assert!(harness.mentions("TIES (density 0.3)"));
    assert!(harness.shows("llama") && harness.shows("30"), "the model's family and layers");
}

#[test]
fn scope_is_typed_chosen_and_applied() {
    let mut harness = harness(Window::ready());
    harness.press("More for medical");
    harness.press("Where it acts…");
    assert!(harness.shows("Where medical acts"));
    assert_eq!(harness.focused().as_deref(), Some("Layers"));
    assert!(harness.mentions("This model has 30, counted from 0 to 29."));
    harness.types("0-40");
    assert!(harness.mentions("There is no layer 40"));
    let apply = harness.get_by_role_and_label(Role::Button, "Apply");
    assert!(apply.accesskit_node().is_disabled());
    harness.keys(Modifiers::COMMAND, Key::A);
    harness.types("0-9, 20-29");
    for kind in ["Embeddings", "Norms", "Other"] {
        harness.get_by_label(kind).click();
        harness.run();
    }
    harness.get_by_label("Varies over depth").click();
    harness.run();
    assert!(harness.shows("Strength from the first layer to the last: 1, 1, 1"));
    type_number(&mut harness, "Factor at 50 % of the depth", "0,5");
    type_number(&mut harness, "Factor at the last layer", "0");
    harness.press("One factor more");
    harness.press("One factor less");
    assert!(harness.shows("Strength from the first layer to the last: 1, 0.5, 0"));
    harness.press("Apply");
    assert!(!harness.shows("Where medical acts"));
    let wanted = Scope {
        layers: vec![[0, 9], [20, 29]],
        modules: vec![ModuleKind::Attention, ModuleKind::Mlp],
        profile: vec![1.0, 0.5, 0.0],
    };
    assert_eq!(scope(&mut harness), wanted);
}

fn with_scope() -> Window {
    let mut settings = settings();
    settings.knobs[0].scopes[0] = Scope { layers: vec![[0, 9]], ..Scope::default() };
    Window::ready_with(settings)
}

#[test]
fn knob_with_a_scope_has_a_mark_that_leads_to_it_and_everywhere_takes_it_off() {
    let mut harness = harness(with_scope());
    harness.press("medical acts on layers 0–9");
    harness.press("Everywhere");
    harness.press("Apply");
    assert_eq!(scope(&mut harness), Scope::default());
    assert!(!harness.mentions("medical acts on"));
}

#[test]
fn knob_without_a_scope_has_no_mark() {
    let mut harness = harness(with_scope());
    assert!(harness.shows("medical acts on layers 0–9"));
    assert!(!harness.mentions("financial acts on"));
    harness.press("Side B");
    assert!(!harness.mentions("medical acts on"), "the other side has none");
}

#[test]
fn layers_are_entered_with_the_keyboard() {
    let mut window = Window::ready();
    window.update(Action::Knob(MEDICAL, KnobAction::EditScope));
    let mut harness = harness(window);
    harness.run();
    harness.types("30");
    harness.key(Key::Enter);
    assert!(harness.mentions("There is no layer 30"), "it is still to be corrected");
    harness.key(Key::Escape);
    harness.state_mut().update(Action::Knob(MEDICAL, KnobAction::EditScope));
    harness.run();
    harness.types("3 5-7");
    harness.key(Key::Enter);
    assert!(!harness.shows("Where medical acts"));
    assert_eq!(scope(&mut harness).layers, [[3, 3], [5, 7]]);
}

#[test]
fn scope_can_be_applied_in_a_low_window() {
    let mut window = with_scope();
    window.update(Action::Knob(MEDICAL, KnobAction::EditScope));
    let mut harness = harness_of([480.0, 320.0], window);
    harness.run();
    harness.get_by_label("Varies over depth").click();
    harness.run();
    harness.get_by_label("Apply").focus();
    harness.run();
    let apply = harness.get_by_label("Apply").rect();
    assert!(apply.bottom() <= 320.0 && apply.top() >= 0.0, "{apply:?} is out of sight");
    harness.key(Key::Enter);
    assert!(!harness.shows("Where medical acts"));
}

#[test]
fn no_kind_of_weights_is_no_scope() {
    let mut harness = harness(Window::ready());
    harness.press("Change where it acts…");
    for kind in ["Attention", "MLP", "Embeddings", "Norms", "Other"] {
        harness.get_by_label(kind).click();
        harness.run();
    }
    assert!(harness.shows("Choose at least one kind of weights"));
    harness.key(Key::Escape);
    assert_eq!(scope(&mut harness), Scope::default());
}
