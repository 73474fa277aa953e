use std::path::PathBuf;

use tauri::{AppHandle, Manager as _, Theme, WebviewUrl, WebviewWindow, WebviewWindowBuilder};

/// The window's name among the shell's.
const LABEL: &str = "guide";

/// Shows the user guide, or brings it to the front; on the main thread.
///
/// `data` is a folder for what the web view writes, though there is nothing to keep. (One that is
/// told to write nothing doesn't find the page when it is opened again.)
pub(crate) fn open(app: &AppHandle, theme: Theme, data: PathBuf) -> tauri::Result<()> {
    let window = match app.get_webview_window(LABEL) {
        Some(window) => window,
        None => build(app, data)?,
    };
    // Not while it is built: there, the theme of the desktop wins.
    window.set_theme(Some(theme))?;
    window.unminimize()?;
    window.show()?;
    window.set_focus()
}

fn build(app: &AppHandle, data: PathBuf) -> tauri::Result<WebviewWindow> {
    WebviewWindowBuilder::new(app, LABEL, WebviewUrl::App("index.html".into()))
        .title("MEAV Studio: user guide")
        .inner_size(1000.0, 760.0)
        .min_inner_size(360.0, 320.0)
        .data_directory(data)
        // It is a page to read and leads nowhere.
        .on_navigation(|url| url.scheme() == "tauri")
        .build()
}

#[cfg(test)]
mod tests {
    use meav_ui::UiCommand;

    const PAGE: &str = include_str!("../guide/index.html");

    #[test]
    fn every_shortcut_stands_in_the_page_and_no_other() {
        let shortcuts: Vec<_> = UiCommand::ALL
            .iter()
            .filter_map(|command| Some((command.text(), command.keys()?)))
            .collect();
        for (text, keys) in &shortcuts {
            let row = format!("<tr><td>{text}</td><td><kbd>{keys}</kbd></td></tr>");
            assert!(PAGE.contains(&row), "{row} is missing");
        }
        let table = PAGE.split("id=\"shortcuts\"").nth(1).unwrap_or_default();
        let table = table.split("</table>").next().unwrap_or_default();
        assert_eq!(table.matches("<kbd>").count(), shortcuts.len());
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
        let sources = PAGE.split("src=\"").skip(1).filter_map(|rest| rest.split('"').next());
        assert_eq!(sources.collect::<Vec<_>>(), ["window.png"]);
        for forbidden in ["<script", "http:", "https:", "style=\""] {
            assert!(!PAGE.contains(forbidden), "{forbidden}");
        }
    }
}
