//! A report as one page of HTML that needs nothing else: no script, no font, no network.

use std::fmt::Write as _;

use super::treemap::{Rect, squarify};
use super::{ChangedFile, Component, Download, Layer, Report};

const PAGE: Rect = Rect {
    x: 0.0,
    y: 0.0,
    width: 1200.0,
    height: 640.0,
};
/// The height of the line that names a layer, in the units of the picture.
const HEAD: f64 = 16.0;
/// Around the components of a layer.
const MARGIN: f64 = 2.0;
/// The width of a character of a label, about.
const CHARACTER: f64 = 6.4;
/// Components that a line of the table names before it folds.
const NAMED: usize = 6;

const STYLE: &str = "
:root { color-scheme: light dark; --back: #fbfbfa; --text: #1d2129; --soft: #5c6370; --line: #d9dce1; --card: #ffffff;
  --kept: #dfe5ec; --kept-edge: #aab6c4; --calm: #d6e6dd; --calm-edge: #8fb8a1; --busy: #f6e3b8; --busy-edge: #cfa84a;
  --new: #f7cdb4; --new-edge: #d9743f; --strong: #b8501b; }
@media (prefers-color-scheme: dark) { :root { --back: #14171c; --text: #e6e8eb; --soft: #9aa3af; --line: #323842;
  --card: #1b1f26; --kept: #2a323d; --kept-edge: #4a5766; --calm: #233a30; --calm-edge: #48755f; --busy: #453a1c;
  --busy-edge: #8f7633; --new: #57301b; --new-edge: #c0703f; --strong: #f0a070; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1240px; padding: 24px 20px 60px; background: var(--back); color: var(--text);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 22px; margin: 0 0 4px; overflow-wrap: anywhere; } h2 { font-size: 17px; margin: 36px 0 10px; }
p { margin: 0 0 10px; color: var(--soft); overflow-wrap: anywhere; }
.cards { display: flex; flex-wrap: wrap; gap: 12px; margin: 18px 0 24px; }
.card { flex: 1 1 170px; background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 10px 14px; }
.card b { display: block; font-size: 21px; font-variant-numeric: tabular-nums; } .card span { color: var(--soft); font-size: 13px; }
.card.cost b { color: var(--strong); }
svg { width: 100%; height: auto; display: block; } svg text { font: 11px system-ui, sans-serif; fill: var(--text); pointer-events: none; }
svg .head { font-weight: 600; } rect { stroke-width: 1; }
.kept { fill: var(--kept); stroke: var(--kept-edge); } .calm { fill: var(--calm); stroke: var(--calm-edge); }
.busy { fill: var(--busy); stroke: var(--busy-edge); } .new { fill: var(--new); stroke: var(--new-edge); }
.layer { fill: none; stroke: var(--line); }
.legend { display: flex; flex-wrap: wrap; gap: 18px; margin: 10px 0 0; color: var(--soft); font-size: 13px; }
.legend svg { width: 14px; height: 14px; display: inline; vertical-align: -2px; margin-right: 5px; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; background: var(--card); border: 1px solid var(--line); }
th, td { text-align: left; padding: 5px 10px; border-bottom: 1px solid var(--line); vertical-align: top; }
th { font-size: 13px; color: var(--soft); font-weight: 600; }
td.number, th.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
td.text { overflow-wrap: anywhere; } tr.fresh td:first-child { box-shadow: inset 4px 0 var(--new-edge); }
summary { cursor: pointer; color: var(--soft); }
";

/// The page.
pub fn page(report: &Report) -> String {
    let mut out =
        String::from("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
    out.push_str("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n");
    let title = escape(&report.new.name);
    put(
        &mut out,
        format_args!("<title>{title}: layers</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"),
    );
    put(&mut out, format_args!("<h1>{title}</h1>\n"));
    if let Some(digest) = &report.new.digest {
        put(&mut out, format_args!("<p>{}</p>\n", escape(digest)));
    }
    if let Some(old) = &report.old {
        put(
            &mut out,
            format_args!("<p>after {} ({})</p>\n", escape(&old.name), bytes(old.size)),
        );
    }
    cards(&mut out, report);
    picture(&mut out, report);
    layers(&mut out, report);
    if let Some(files) = report
        .download
        .as_ref()
        .and_then(|download| download.files.as_ref())
    {
        files_table(&mut out, &files.largest, files.new_contents);
    }
    out.push_str("</body>\n</html>\n");
    out
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a text takes anything");
}

fn cards(out: &mut String, report: &Report) {
    out.push_str("<div class=\"cards\">\n");
    let what = match report.new.digest {
        Some(_) => "the image, compressed",
        None => "the files of the image",
    };
    card(out, "", &bytes(report.new.size), what);
    card(out, "", &report.new.layers.to_string(), "layers");
    if let Some(Download {
        new_layers,
        by_layer,
        files,
    }) = &report.download
    {
        let share = percent(*by_layer, report.new.size);
        card(
            out,
            " cost",
            &bytes(*by_layer),
            &format!("to download by layer: {new_layers} new, {share}"),
        );
        if let Some(files) = files {
            card(
                out,
                "",
                &bytes(files.by_file),
                &format!("by file: {} new contents", files.new_contents),
            );
            card(out, "", &bytes(files.by_delta), "as a delta");
        }
    }
    out.push_str("</div>\n");
}

fn card(out: &mut String, class: &str, number: &str, what: &str) {
    let (number, what) = (escape(number), escape(what));
    put(
        out,
        format_args!("<div class=\"card{class}\"><b>{number}</b><span>{what}</span></div>\n"),
    );
}

/// The treemap: layers by size, and in each its components.
fn picture(out: &mut String, report: &Report) {
    out.push_str("<h2>Layers and what is in them, by size</h2>\n");
    let mut order: Vec<(usize, &Layer)> = report.layers.iter().enumerate().collect();
    order.sort_by(|a, b| b.1.size.cmp(&a.1.size).then(a.0.cmp(&b.0)));
    let weights: Vec<f64> = order.iter().map(|(_, layer)| weight(layer.size)).collect();
    let (width, height) = (PAGE.width, PAGE.height);
    put(
        out,
        format_args!(
            "<svg viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"treemap of the layers\">\n"
        ),
    );
    for ((place, layer), rect) in order.into_iter().zip(squarify(&weights, PAGE)) {
        draw_layer(out, place, layer, rect, report.old.is_some());
    }
    out.push_str("</svg>\n<div class=\"legend\">\n");
    let legend: &[(&str, &str)] = match report.old {
        Some(_) => &[
            ("new", "new: to download"),
            ("kept", "the earlier image has it"),
        ],
        None => &[
            ("kept", "how often it changes is not known"),
            ("calm", "up to 6 changes a year"),
            ("busy", "up to 24"),
            ("new", "more"),
        ],
    };
    for (class, what) in legend {
        put(
            out,
            format_args!(
                "<span><svg viewBox=\"0 0 14 14\"><rect class=\"{class}\" x=\"1\" y=\"1\" width=\"12\" height=\"12\"/></svg>{what}</span>\n"
            ),
        );
    }
    out.push_str("</div>\n");
}

fn draw_layer(out: &mut String, place: usize, layer: &Layer, rect: Rect, compared: bool) {
    let name = format!("layer {}: {}", place + 1, bytes(layer.size));
    let class = |component: Option<&Component>| match (compared, layer.new) {
        (true, true) => "new",
        (true, false) => "kept",
        (false, _) => class_of_rate(component.and_then(|component| component.changes_per_year)),
    };
    let lone = layer.components.len() <= 1;
    if lone || rect.height < 3.0 * HEAD || rect.width < 40.0 {
        let first = layer.components.first();
        let (label, title) = match (lone, first) {
            (true, Some(component)) => (
                component.name.clone(),
                format!("{}\n{name}", component.name),
            ),
            _ => (
                name.clone(),
                format!("{name}\n{}", names(&layer.components)),
            ),
        };
        draw(out, rect, class(first), &label, &title);
        return;
    }
    draw(out, rect, "layer", "", &name);
    head(out, rect, &name);
    let weights: Vec<f64> = layer
        .components
        .iter()
        .map(|component| weight(component.size.unwrap_or(0)))
        .collect();
    let inside = rect.inside(MARGIN, HEAD + MARGIN);
    for (component, rect) in layer.components.iter().zip(squarify(&weights, inside)) {
        let size = component
            .size
            .map_or_else(|| "size not known".to_owned(), bytes);
        let title = format!("{} ({size})\n{name}", component.name);
        draw(out, rect, class(Some(component)), &component.name, &title);
    }
}

fn draw(out: &mut String, rect: Rect, class: &str, label: &str, title: &str) {
    let Rect {
        x,
        y,
        width,
        height,
    } = rect;
    put(
        out,
        format_args!(
            "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\"><title>{}</title></rect>\n",
            escape(title)
        ),
    );
    if height >= HEAD
        && let Some(label) = fitting(label, width)
    {
        put(
            out,
            format_args!(
                "<text x=\"{:.1}\" y=\"{:.1}\">{}</text>\n",
                x + 4.0,
                y + 12.0,
                escape(&label)
            ),
        );
    }
}

fn head(out: &mut String, rect: Rect, name: &str) {
    if let Some(label) = fitting(name, rect.width) {
        let (x, y) = (rect.x + 4.0, rect.y + 12.0);
        put(
            out,
            format_args!(
                "<text class=\"head\" x=\"{x:.1}\" y=\"{y:.1}\">{}</text>\n",
                escape(&label)
            ),
        );
    }
}

/// As much of a label as fits; nothing if that is not worth it.
fn fitting(label: &str, width: f64) -> Option<String> {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a picture is not that wide"
    )]
    let room = ((width - 8.0) / CHARACTER).max(0.0) as usize;
    let length = label.chars().count();
    if length == 0 || (room < length && room < 4) {
        return None;
    }
    if length <= room {
        return Some(label.to_owned());
    }
    Some(label.chars().take(room - 1).chain(['…']).collect())
}

fn class_of_rate(rate: Option<f64>) -> &'static str {
    match rate {
        None => "kept",
        Some(rate) if rate <= 6.0 => "calm",
        Some(rate) if rate <= 24.0 => "busy",
        Some(_) => "new",
    }
}

fn layers(out: &mut String, report: &Report) {
    out.push_str("<h2>Layers</h2>\n<div class=\"wide\"><table>\n<tr><th class=\"number\">layer</th><th class=\"number\">size</th>");
    out.push_str("<th>components</th></tr>\n");
    for (place, layer) in report.layers.iter().enumerate() {
        let class = if layer.new && report.old.is_some() {
            " class=\"fresh\""
        } else {
            ""
        };
        put(
            out,
            format_args!(
                "<tr{class}><td class=\"number\">{}</td><td class=\"number\">{}</td><td class=\"text\">",
                place + 1,
                bytes(layer.size)
            ),
        );
        let shown = layer.components.len().min(NAMED);
        out.push_str(&escape(&names(&layer.components[..shown])));
        if layer.components.len() > shown {
            let rest = &layer.components[shown..];
            put(
                out,
                format_args!(
                    " <details><summary>and {} more</summary>{}</details>",
                    rest.len(),
                    escape(&names(rest))
                ),
            );
        }
        out.push_str("</td></tr>\n");
    }
    out.push_str("</table></div>\n");
}

fn files_table(out: &mut String, files: &[ChangedFile], all: usize) {
    put(
        out,
        format_args!("<h2>The largest of {all} new contents</h2>\n<div class=\"wide\"><table>\n"),
    );
    out.push_str("<tr><th>file</th><th class=\"number\">size</th><th class=\"number\">compressed</th><th class=\"number\">as a delta</th></tr>\n");
    for file in files {
        let delta = file.delta.map_or_else(|| "–".to_owned(), bytes);
        put(
            out,
            format_args!(
                "<tr><td class=\"text\">{}</td><td class=\"number\">{}</td><td class=\"number\">{}</td><td class=\"number\">{delta}</td></tr>\n",
                escape(&file.path),
                bytes(file.size),
                bytes(file.compressed)
            ),
        );
    }
    out.push_str("</table></div>\n");
}

fn names(components: &[Component]) -> String {
    let names: Vec<&str> = components
        .iter()
        .map(|component| component.name.as_str())
        .collect();
    names.join(", ")
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a picture has fewer dots than that"
)]
fn weight(size: u64) -> f64 {
    // What holds nothing is still there to be seen.
    size.max(1) as f64
}

fn percent(part: u64, whole: u64) -> String {
    format!("{:.1} %", 100.0 * weight(part) / weight(whole))
}

/// A number of bytes for people, in decimal units.
fn bytes(count: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let value = count as f64;
    match count {
        0..1000 => format!("{count} B"),
        1000..1_000_000 => format!("{:.1} kB", value / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", value / 1e6),
        _ => format!("{:.2} GB", value / 1e9),
    }
}

/// Text that HTML takes for nothing else.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' => out.push('\n'),
            control if control.is_control() => out.push('\u{fffd}'),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::{Files, Summary};
    use super::*;

    fn report() -> Report {
        let component = |name: &str, size| Component {
            name: name.to_owned(),
            size: Some(size),
            changes_per_year: Some(3.0),
        };
        let layer = |size, new, components| Layer {
            digest: Some("sha256:00".to_owned()),
            size,
            new,
            components,
        };
        Report {
            version: 1,
            old: Some(Summary {
                name: "oci:a".to_owned(),
                digest: None,
                layers: 2,
                size: 5000,
            }),
            new: Summary {
                name: "oci:<b>&\"'\u{7}".to_owned(),
                digest: None,
                layers: 2,
                size: 6000,
            },
            layers: vec![
                layer(
                    5000,
                    false,
                    vec![component("dpkg/a", 6000), component("dpkg/b", 4000)],
                ),
                layer(1000, true, vec![component("rest", 2000)]),
            ],
            download: Some(Download {
                new_layers: 1,
                by_layer: 1000,
                files: Some(Files {
                    new_contents: 1,
                    size: 800,
                    by_file: 500,
                    by_delta: 90,
                    largest: vec![ChangedFile {
                        path: "/etc/<x>".to_owned(),
                        size: 800,
                        compressed: 500,
                        delta: Some(90),
                    }],
                }),
            }),
        }
    }

    #[test]
    fn a_page_shows_each_component_and_each_file_and_lets_no_name_be_markup() {
        let page = page(&report());
        for shown in [
            "dpkg/a",
            "dpkg/b",
            "rest",
            "/etc/&lt;x&gt;",
            "16.7 %",
            "90 B",
            "oci:&lt;b&gt;&amp;&quot;&#39;\u{fffd}",
        ] {
            assert!(page.contains(shown), "{shown}");
        }
        assert!(!page.contains("<b>&") && !page.contains("<x>"));
    }

    #[test]
    fn a_page_needs_nothing_else() {
        let page = page(&report());
        for outside in ["http", "src=", "href=", "<script", "url(", "@import"] {
            assert!(!page.contains(outside), "{outside}");
        }
    }

    #[test]
    fn tags_are_closed() {
        let page = page(&report());
        for tag in [
            "html", "body", "svg", "table", "tr", "td", "th", "div", "text", "title", "h2", "p",
            "span",
        ] {
            let opened = page.matches(&format!("<{tag}>")).count()
                + page.matches(&format!("<{tag} ")).count();
            assert_eq!(opened, page.matches(&format!("</{tag}>")).count(), "{tag}");
        }
    }

    #[test]
    fn a_label_is_cut_to_the_room_that_there_is() {
        assert_eq!(fitting("dpkg/linux", 200.0).as_deref(), Some("dpkg/linux"));
        assert_eq!(fitting("dpkg/linux", 50.0).as_deref(), Some("dpkg/…"));
        assert_eq!(fitting("dpkg/linux", 20.0), None);
    }
}
