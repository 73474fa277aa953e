use std::path::PathBuf;

use tauri::{AppHandle, Manager as _, Theme, WebviewUrl, WebviewWindowBuilder};

/// The window's name among the shell's.
const LABEL: &str = "guide";

/// Shows the user guide, or brings it to the front; on the main thread.
///
/// `data` is a folder for what the web view writes even though it is to keep nothing.
pub(crate) fn open(app: &AppHandle, theme: Theme, data: PathBuf) -> tauri::Result<()> {
    if let Some(window) = app.get_webview_window(LABEL) {
        window.unminimize()?;
        window.show()?;
        return window.set_focus();
    }
    WebviewWindowBuilder::new(app, LABEL, WebviewUrl::App("index.html".into()))
        .title("MEAV Studio: user guide")
        .inner_size(1000.0, 760.0)
        .min_inner_size(360.0, 320.0)
        .theme(Some(theme))
        // It is a page to read: it keeps nothing and leads nowhere.
        .incognito(true)
        .data_directory(data)
        .on_navigation(|url| url.scheme() == "tauri")
        .build()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use egui::ModifierNames;
    use meav_ui::UiCommand;

    const PAGE: &str = include_str!("../guide/index.html");

    #[test]
    fn every_shortcut_stands_in_the_page_and_no_other() {
        let shortcuts: Vec<_> = UiCommand::ALL
            .iter()
            .filter_map(|command| Some((command.text(), command.shortcut()?)))
            .collect();
        for (text, shortcut) in &shortcuts {
            let keys = shortcut.format(&ModifierNames::NAMES, false);
            let row = format!("<tr><td>{text}</td><td><kbd>{keys}</kbd></td></tr>");
            assert!(PAGE.contains(&row), "{row} is missing");
        }
        assert_eq!(PAGE.matches("</td><td><kbd>").count(), shortcuts.len());
    }

    #[test]
    fn links_lead_to_places_in_the_page_and_nothing_comes_from_elsewhere() {
        for link in PAGE.split("href=\"").skip(1) {
            let target = link.split('"').next().unwrap_or_default();
            match target.strip_prefix('#') {
                Some(id) => assert!(PAGE.contains(&format!("id=\"{id}\"")), "{target} is nowhere"),
                None => assert_eq!(target, "guide.css"),
            }
        }
        for forbidden in ["<script", "src=", "http:", "https:", "style=\""] {
            assert!(!PAGE.contains(forbidden), "{forbidden}");
        }
    }
}
