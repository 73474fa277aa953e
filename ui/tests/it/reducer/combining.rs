use meav_protocol::{JobSpec, Method, ModuleKind, Scope, Setup};
use meav_ui::{
    Action, DialogAction, KnobAction, KnobId, KnobSettings, Preset, ScopeDraft, Settings, Slot,
    UiCommand,
};

use crate::support::{FINANCIAL, MEDICAL, Window};
use crate::values::stamp;

const TIES: Method = Method::Ties { density: 0.3 };

fn first_layers() -> Scope {
    Scope { layers: vec![[0, 9]], modules: vec![ModuleKind::Mlp], profile: vec![1.0, 0.5] }
}

fn draft(layers: &str) -> ScopeDraft {
    ScopeDraft { layers: layers.to_owned(), modules: ModuleKind::ALL.to_vec(), profile: Vec::new() }
}

/// Opens the dialog of a knob's scope and has it take this.
fn give_scope(window: &mut Window, knob: KnobId, draft: ScopeDraft) {
    window.update(Action::Knob(knob, KnobAction::EditScope));
    window.update(Action::Dialog(DialogAction::SetScope(draft)));
    window.update(Action::Dialog(DialogAction::Accept));
}

fn prepared(window: &mut Window) -> Setup {
    let prepares = window.take_prepares();
    let (job, setup) = prepares.last().cloned().expect("the weights follow");
    window.answer(job, &JobSpec::Prepare(setup.clone()));
    setup
}

#[test]
fn method_is_part_of_what_is_prepared_and_belongs_to_a_side() {
    let mut window = Window::ready();
    window.update(Action::SetMethod(TIES));
    assert_eq!(prepared(&mut window).method, TIES);
    window.update(Action::Flip(Slot::B));
    assert_eq!(prepared(&mut window).method, Method::TaskArithmetic);
    assert_eq!(window.settings().methods, [TIES, Method::TaskArithmetic]);
    window.update(Action::Flip(Slot::A));
    window.command(UiCommand::CopySlot);
    assert_eq!(window.settings().methods, [TIES, TIES]);
}

#[test]
fn shares_that_no_engine_would_take_become_those_of_a_first_choice() {
    for (set, kept) in [
        (Method::Ties { density: 0.0 }, Method::Ties { density: 0.2 }),
        (Method::Ties { density: f64::NAN }, Method::Ties { density: 0.2 }),
        (Method::Ties { density: 1.0 }, Method::Ties { density: 1.0 }),
        (Method::Dare { drop: 1.0, seed: 7 }, Method::Dare { drop: 0.5, seed: 7 }),
        (Method::Dare { drop: 0.0, seed: 7 }, Method::Dare { drop: 0.0, seed: 7 }),
    ] {
        let mut window = Window::ready();
        window.update(Action::SetMethod(set));
        assert_eq!(window.settings().methods[0], kept, "{set}");
    }
}

#[test]
fn new_seed_changes_nothing_but_the_seed_of_dare() {
    let mut window = Window::ready();
    window.update(Action::NewSeed);
    assert_eq!(window.settings().methods[0], Method::TaskArithmetic);
    window.update(Action::SetMethod(Method::Dare { drop: 0.25, seed: u64::MAX }));
    window.update(Action::NewSeed);
    let Method::Dare { drop, seed } = window.settings().methods[0] else { panic!("not DARE") };
    assert_eq!(drop, 0.25);
    assert!(u32::try_from(seed).is_ok(), "{seed} is the old one, or too long for a spreadsheet");
}

#[test]
fn scope_is_part_of_what_is_prepared_and_belongs_to_a_side() {
    let mut window = Window::ready();
    let new = ScopeDraft {
        layers: "0–9".to_owned(),
        modules: vec![ModuleKind::Mlp],
        profile: vec![1.0, 0.5],
    };
    give_scope(&mut window, MEDICAL, new);
    let setup = prepared(&mut window);
    assert_eq!(setup.vectors[0].scope, first_layers());
    assert_eq!(setup.vectors[1].scope, Scope::default());
    window.update(Action::Flip(Slot::B));
    assert_eq!(prepared(&mut window).vectors[0].scope, Scope::default());
    assert_eq!(window.settings().knobs[0].scopes, [first_layers(), Scope::default()]);
    window.update(Action::Flip(Slot::A));
    window.command(UiCommand::CopySlot);
    assert_eq!(window.settings().knobs[0].scopes, [first_layers(), first_layers()]);
}

#[test]
fn scope_that_is_none_stays_in_the_dialog_to_be_corrected() {
    let mut window = Window::ready();
    give_scope(&mut window, MEDICAL, draft("0–30"));
    assert_eq!(window.settings().knobs[0].scopes[0], Scope::default(), "there are 30 layers");
    window.update(Action::Dialog(DialogAction::SetScope(draft("29, 0–9"))));
    window.update(Action::Dialog(DialogAction::Accept));
    assert_eq!(window.settings().knobs[0].scopes[0].layers, [[0, 9], [29, 29]]);
    window.update(Action::Dialog(DialogAction::SetScope(draft("1"))));
    assert_eq!(window.settings().knobs[0].scopes[0].layers, [[0, 9], [29, 29]], "it has closed");
}

#[test]
fn scope_of_a_knob_that_has_gone_is_asked_for_and_set_nowhere() {
    let mut window = Window::ready();
    window.update(Action::Knob(MEDICAL, KnobAction::EditScope));
    window.update(Action::Knob(MEDICAL, KnobAction::Remove));
    window.update(Action::Dialog(DialogAction::SetScope(draft("1"))));
    window.update(Action::Dialog(DialogAction::Accept));
    give_scope(&mut window, MEDICAL, draft("1"));
    assert_eq!(window.settings().knobs[0].scopes[0], Scope::default(), "that is the other's");
}

#[test]
fn stamp_of_an_answer_brings_back_method_and_scopes() {
    let mut window = Window::ready();
    window.set_knob(MEDICAL, 0.7);
    window.update(Action::SetMethod(TIES));
    give_scope(&mut window, MEDICAL, draft("0–9"));
    let recipe = stamp(&window.ask_and_answer("Hello?").setup);
    assert_eq!(recipe.vectors[0].scope.layers, [[0, 9]], "the answer had it");
    window.update(Action::SetMethod(Method::TaskArithmetic));
    give_scope(&mut window, MEDICAL, ScopeDraft { layers: String::new(), ..draft("") });
    window.answer_all();
    assert_eq!(window.settings().knobs[0].scopes[0], Scope::default());
    window.update(Action::ApplyRecipe(Box::new(recipe)));
    let setup = prepared(&mut window);
    assert_eq!(setup.method, TIES);
    assert_eq!(setup.vectors[0].scope.layers, [[0, 9]]);
}

#[test]
fn preset_keeps_method_and_scopes_and_brings_them_back() {
    let mut window = Window::ready();
    window.set_knob(FINANCIAL, 0.5);
    window.update(Action::SetMethod(TIES));
    give_scope(&mut window, FINANCIAL, draft("3"));
    window.command(UiCommand::SavePreset);
    window.update(Action::Dialog(DialogAction::SetText("law".to_owned())));
    window.update(Action::Dialog(DialogAction::Accept));
    let preset = window.settings().presets[0].clone();
    assert_eq!(preset.scope(0).layers, [[3, 3]]);
    window.update(Action::SetMethod(Method::TaskArithmetic));
    give_scope(&mut window, FINANCIAL, draft(""));
    window.update(Action::ApplyPreset(preset));
    window.answer_all();
    let kept = window.settings();
    assert_eq!(kept.methods[0], TIES);
    let financial = kept.knobs.iter().find(|knob| knob.file.ends_with("financial"));
    assert_eq!(financial.expect("it is on a knob").scopes[0].layers, [[3, 3]]);
}

#[test]
fn settings_without_methods_and_scopes_are_read_as_before() {
    let json = r#"{ "knobs": [{ "file": "legal", "coefficients": [0.5, 0.0] }],
        "presets": [{ "name": "law", "terms": [["legal", 0.3]] }] }"#;
    let read: Settings = serde_json::from_str(json).unwrap();
    assert_eq!(read.methods, [Method::TaskArithmetic; 2]);
    assert_eq!(read.knobs[0].scopes, [Scope::default(), Scope::default()]);
    let terms = vec![("legal".into(), 0.3)];
    assert_eq!(read.presets, [Preset { name: "law".to_owned(), terms, ..Preset::default() }]);
    let (_, setup) = Window::with(read).take_prepares()[0].clone();
    assert_eq!(setup.method, Method::TaskArithmetic);
    assert_eq!(setup.vectors[0].coefficient, 0.5);
}

#[test]
fn methods_and_scopes_of_a_newer_version_do_not_cost_the_rest() {
    let json = r#"{ "methods": [{ "name": "magic" }, { "name": "ties", "density": 0.3 }],
        "knobs": [{ "file": "legal", "scopes": [{ "modules": ["soul"] }, { "layers": [[1, 2]] }] }],
        "presets": [{ "name": "law", "terms": [], "method": { "name": "magic" } }] }"#;
    let read: Settings = serde_json::from_str(json).unwrap();
    assert_eq!(read.methods, [Method::TaskArithmetic, TIES]);
    let second = Scope { layers: vec![[1, 2]], ..Scope::default() };
    assert_eq!(read.knobs[0].scopes, [Scope::default(), second]);
    assert_eq!(read.presets[0].method, Method::TaskArithmetic);
    let read: Settings = serde_json::from_str(r#"{ "methods": "none" }"#).unwrap();
    assert_eq!(read, Settings::default());
}

#[test]
fn scopes_out_of_order_in_a_settings_file_mean_what_they_say() {
    let scope = Scope {
        layers: vec![[20, 29], [0, 9], [5, 12]],
        modules: ModuleKind::ALL.to_vec(),
        profile: vec![1.0, 99.0],
    };
    let scopes = [scope, Scope::default()];
    let knobs = vec![KnobSettings { file: "legal".into(), scopes, ..KnobSettings::default() }];
    let mut window = Window::with(Settings { knobs, ..Settings::default() });
    let scope = window.take_prepares()[0].1.vectors[0].scope.clone();
    assert_eq!(scope.layers, [[0, 12], [20, 29]]);
    assert_eq!(scope.modules, []);
    assert_eq!(scope.profile, [1.0, 2.0]);
}
