//! A table of words, and its printing: text in columns, markdown, HTML.

use serde::Serialize;

/// A table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Grid {
    /// Names of the columns; true: numbers, to the right.
    pub heads: Vec<(String, bool)>,
    /// Cells.
    pub rows: Vec<Vec<String>>,
}

impl Grid {
    /// A table with these columns: `>` before a name sets its numbers to the right.
    pub fn new(heads: &[&str]) -> Self {
        Self {
            heads: heads
                .iter()
                .map(|h| match h.strip_prefix('>') {
                    Some(h) => (h.to_owned(), true),
                    None => ((*h).to_owned(), false),
                })
                .collect(),
            rows: vec![],
        }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// In columns, two spaces between them.
    pub fn text(&self) -> String {
        let width = |s: &str| s.chars().count();
        let mut widths: Vec<usize> = self.heads.iter().map(|(h, _)| width(h)).collect();
        for row in &self.rows {
            for (w, cell) in widths.iter_mut().zip(row) {
                *w = (*w).max(width(cell));
            }
        }
        let heads: Vec<String> = self.heads.iter().map(|(h, _)| h.clone()).collect();
        let mut out = String::new();
        for row in std::iter::once(&heads).chain(&self.rows) {
            let mut line = String::new();
            for ((cell, w), (_, right)) in row.iter().zip(&widths).zip(&self.heads) {
                let space = " ".repeat(w.saturating_sub(width(cell)));
                let (before, after) = if *right {
                    (space.as_str(), "")
                } else {
                    ("", space.as_str())
                };
                line.push_str(&format!("{before}{cell}{after}  "));
            }
            out.push_str(line.trim_end());
            out.push('\n');
        }
        out
    }

    /// As a markdown table.
    pub fn markdown(&self) -> String {
        let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
        let cell = |s: &String| s.replace('|', "\\|");
        let mut out = line(self.heads.iter().map(|(h, _)| cell(h)).collect());
        let rule = |right: &bool| if *right { "---:" } else { "---" }.to_owned();
        out.push_str(&line(self.heads.iter().map(|(_, r)| rule(r)).collect()));
        for row in &self.rows {
            out.push_str(&line(row.iter().map(cell).collect()));
        }
        out
    }

    /// As an HTML table.
    pub fn html(&self) -> String {
        let class = |right: bool| if right { " class=\"n\"" } else { "" };
        let mut out = String::from("<table>\n<thead><tr>");
        for (h, right) in &self.heads {
            out.push_str(&format!("<th{}>{}</th>", class(*right), escape(h)));
        }
        out.push_str("</tr></thead>\n<tbody>\n");
        for row in &self.rows {
            out.push_str("<tr>");
            for (cell, (_, right)) in row.iter().zip(&self.heads) {
                out.push_str(&format!("<td{}>{}</td>", class(*right), escape(cell)));
            }
            out.push_str("</tr>\n");
        }
        out.push_str("</tbody></table>\n");
        out
    }
}

/// Text that is safe between and inside HTML tags.
pub fn escape(s: &str) -> String {
    let mut out = String::with_capacity(s.len());
    for c in s.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// A number with four or five significant digits; whole ones in full.
pub fn number(v: f64) -> String {
    if !v.is_finite() {
        return String::new();
    }
    let size = v.abs();
    if v == v.trunc() && size < 1e15 {
        return format!("{v:.0}");
    }
    let digits = match size {
        s if s >= 10_000.0 => 0,
        s if s >= 1_000.0 => 1,
        s if s >= 100.0 => 2,
        s if s >= 10.0 => 3,
        s if s >= 0.1 => 4,
        s => (3.0 - s.log10().floor()).clamp(4.0, 12.0) as usize,
    };
    format!("{v:.digits$}")
}
