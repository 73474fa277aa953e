use meav_protocol::{DeviceChoice, Dtype, Method, ModuleKind, Scope};
use meav_ui::{
    Action, ChatAction, Effect, KnobSettings, Panels, Preset, Recent, SamplingSettings, Screen,
    SendKey, Settings, Slot, Theme, UiCommand,
};

use crate::support::{MEDICAL, Window, settings};

fn saves(window: &Window) -> usize {
    window.effects.iter().filter(|effect| matches!(effect, Effect::SaveSettings(_))).count()
}

fn scope() -> Scope {
    Scope { layers: vec![[0, 9]], modules: vec![ModuleKind::Mlp], profile: vec![1.0, 0.5] }
}

/// Settings that differ from the defaults everywhere.
fn unusual() -> Settings {
    Settings {
        theme: Theme::Dark,
        text_scale: 1.3,
        panels: Panels { knobs: false, chats: true, details: false },
        screen: Screen::Vectors,
        send_key: SendKey::CtrlEnter,
        device: DeviceChoice::Cuda(Some(1)),
        notifications: false,
        recent: vec![Recent { path: "/models/big.gguf".into(), is_model: true }],
        model: "/models/big.gguf".into(),
        dtype: Dtype::F32,
        knobs: vec![KnobSettings {
            file: "legal".into(),
            coefficients: [0.1, -1.5],
            bypassed: [true, false],
            scopes: [scope(), Scope::default()],
        }],
        slot: Slot::B,
        methods: [Method::Dare { drop: 0.25, seed: u64::MAX }, Method::Ties { density: 0.3 }],
        presets: vec![Preset {
            name: "law".to_owned(),
            terms: vec![("legal".into(), 0.3)],
            method: Method::Ties { density: 0.3 },
            scopes: vec![scope()],
        }],
        sampling: SamplingSettings { seed: Some(7), top_k: 0, ..SamplingSettings::default() },
        trainings: vec![crate::trainings::spec(7, "legal")],
    }
}

#[test]
fn settings_come_back_as_they_were() {
    for settings in [Settings::default(), unusual()] {
        let json = serde_json::to_string(&settings).unwrap();
        assert_eq!(serde_json::from_str::<Settings>(&json).unwrap(), settings);
    }
}

#[test]
fn device_is_kept_and_the_host_is_told() {
    let mut window = Window::ready();
    window.update(Action::SetDevice(DeviceChoice::Cpu));
    assert_eq!(window.settings().device, DeviceChoice::Cpu);
    assert!(window.effects.contains(&Effect::UseDevice(DeviceChoice::Cpu)));
    let odd = r#"{ "device": { "Cuda": "all of them" }, "text_scale": 1.5 }"#;
    let read: Settings = serde_json::from_str(odd).unwrap();
    assert_eq!((read.device, read.text_scale), (DeviceChoice::Auto, 1.5));
}

#[test]
fn window_begins_as_it_was_left() {
    let mut window = Window::with(unusual());
    assert_eq!(window.settings(), unusual());
    let (_, setup) = window.take_prepares()[0].clone();
    assert_eq!(setup.dtype, Dtype::F32);
    assert_eq!(setup.vectors[0].coefficient, -1.5, "side B is in use, where it is not left out");
}

#[test]
fn what_is_missing_in_a_settings_file_is_as_at_a_first_start() {
    assert_eq!(serde_json::from_str::<Settings>("{}").unwrap(), Settings::default());
    let json = r#"{ "theme": "Light", "panels": { "chats": false }, "sampling": { "top_k": 5 },
        "knobs": [{ "file": "legal" }] }"#;
    let read: Settings = serde_json::from_str(json).unwrap();
    assert_eq!(read.theme, Theme::Light);
    assert_eq!(read.panels, Panels { knobs: true, chats: false, details: true });
    assert_eq!(read.sampling, SamplingSettings { top_k: 5, ..SamplingSettings::default() });
    assert_eq!(read.knobs[0].coefficients, [0.0, 0.0]);
    assert_eq!(read.model, Settings::default().model);
    let odd = r#"{ "theme": "Light", "trainings": [{ "from": "another version" }] }"#;
    let read: Settings = serde_json::from_str(odd).unwrap();
    assert_eq!((read.theme, read.trainings), (Theme::Light, Vec::new()));
}

#[test]
fn what_is_unknown_in_a_settings_file_does_not_cost_the_rest() {
    let json = r#"{ "theme": "HighContrast", "send_key": "Foot", "slot": "C", "dtype": "F8",
        "from_the_future": { "a": [1, 2] }, "notifications": false }"#;
    let read: Settings = serde_json::from_str(json).unwrap();
    assert_eq!(read, Settings { notifications: false, ..Settings::default() });
}

#[test]
fn text_is_never_too_small_or_too_large_to_change_it_back() {
    for (kept, shown) in [(0.0, 0.6), (-3.0, 0.6), (1e9, 2.0), (f32::NAN, 1.0), (1.3, 1.3)] {
        let mut window = Window::with(Settings { text_scale: kept, ..settings() });
        window.command(UiCommand::ToggleDetails);
        assert!((window.settings().text_scale - shown).abs() < 1e-6, "{kept}");
    }
}

#[test]
fn text_grows_and_shrinks_by_tenths_within_limits() {
    let mut window = Window::ready();
    let mut scale = |action| {
        window.update(action);
        (window.settings().text_scale * 10.0).round() / 10.0
    };
    assert_eq!(scale(Action::Command(UiCommand::ZoomIn)), 1.1);
    assert_eq!(scale(Action::SetTextScale(1.57)), 1.6);
    assert_eq!(scale(Action::SetTextScale(9.0)), 2.0);
    assert_eq!(scale(Action::Command(UiCommand::ZoomIn)), 2.0);
    assert_eq!(scale(Action::SetTextScale(f32::NAN)), 2.0, "what is no number changes nothing");
    assert_eq!(scale(Action::SetTextScale(0.0)), 0.6);
    assert_eq!(scale(Action::Command(UiCommand::ZoomOut)), 0.6);
    assert_eq!(scale(Action::Command(UiCommand::ZoomReset)), 1.0);
}

#[test]
fn settings_are_kept_at_most_once_a_second_and_only_when_they_changed() {
    let mut window = Window::ready();
    window.now = 5.0;
    window.tick();
    assert_eq!(saves(&window), 0, "nothing has changed");
    for step in 0..100 {
        window.now = 5.0 + f64::from(step) / 50.0;
        window.set_knob(MEDICAL, f64::from(step) / 100.0);
        window.tick();
    }
    assert_eq!(saves(&window), 2);
    assert!(window.model.next_tick(window.now).is_some_and(|secs| secs <= 1.0));
    window.now = 20.0;
    window.tick();
    window.tick();
    assert_eq!(saves(&window), 3);
    assert_eq!(window.coefficients()[0], 0.99);
    assert_eq!(window.model.next_tick(window.now), None, "nothing is left to do");
}

#[test]
fn what_is_chosen_is_kept() {
    let mut window = Window::ready();
    window.command(UiCommand::ThemeDark);
    window.command(UiCommand::ToggleKnobs);
    window.update(Action::SetSendKey(SendKey::CtrlEnter));
    window.update(Action::SetNotifications(false));
    let sampling = SamplingSettings { temperature: 0.9, ..SamplingSettings::default() };
    window.chat(ChatAction::SetSampling(sampling.clone()));
    let kept = window.settings();
    assert_eq!(kept.theme, Theme::Dark);
    assert!(!kept.panels.knobs);
    assert_eq!(kept.send_key, SendKey::CtrlEnter);
    assert!(!kept.notifications);
    assert_eq!(kept.sampling, sampling);
}

#[test]
fn going_to_a_hidden_panel_shows_it() {
    let mut window = Window::ready();
    window.command(UiCommand::ToggleKnobs);
    window.command(UiCommand::ToggleChats);
    window.command(UiCommand::FocusKnobs);
    window.command(UiCommand::SearchChats);
    assert_eq!(window.settings().panels, Panels::default());
}
