//! A workflow's graph for a terminal.
//!
//! ```text
//! recommendations(cohort = "2026-11")
//! ├─ repeat until validate.stable, at most 3 rounds
//! │  ├─ get_users        hive    → users
//! │  ├─ at once
//! │  │  ╞═ in order
//! │  │  │  ├─ train_all  spark   → global_model
//! │  │  │  └─ check_all  python  → rmse
//! │  │  ╘═ for each region in wrangle.regions, 8 at a time
//! │  │     └─ train_one  r
//! │  └─ select           python  → winner
//! └─ publish             docker
//! ```
//!
//! `├─` steps follow each other, `╞═` branches run at once.

use std::collections::BTreeMap;

use meson_core::definition::{Definition, Items, Join, NodeKind, Step, StepKind};
use meson_core::ids::NodeId;

/// How to draw.
#[derive(Debug, Clone, Default)]
pub struct DrawOptions {
    /// With ANSI colours.
    pub color: bool,
    /// Columns of the terminal; longer lines are cut. Zero: not cut.
    pub width: usize,
    /// States of steps, by name, for a run in progress.
    pub marks: BTreeMap<String, Mark>,
}

/// The state of a step as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// Its colour.
    pub colour: Colour,
    /// Shown instead of what the step makes, like `running 40 %`.
    pub note: String,
}

/// The colours of states, the same everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colour {
    /// Done.
    Green,
    /// In progress.
    Yellow,
    /// Activated.
    Blue,
    /// Failed.
    Red,
    /// Not started.
    Grey,
}

impl Colour {
    fn code(self) -> &'static str {
        match self {
            Self::Green => "32",
            Self::Yellow => "33",
            Self::Blue => "34",
            Self::Red => "31",
            Self::Grey => "90",
        }
    }

    /// Tells the states apart where there are no colours.
    fn symbol(self) -> &'static str {
        match self {
            Self::Green => "✔",
            Self::Yellow => "▶",
            Self::Blue => "◆",
            Self::Red => "✘",
            Self::Grey => "○",
        }
    }
}

/// A line before its columns are aligned.
enum Line {
    Text(String),
    Step {
        lead: String,
        name: String,
        kind: String,
        note: String,
        colour: Option<Colour>,
    },
}

/// Draws the graph of `definition`; ends with a newline.
pub fn draw(definition: &Definition, options: &DrawOptions) -> String {
    let mut canvas = Canvas {
        options,
        lines: Vec::new(),
    };
    canvas.lines.push(Line::Text(title(definition)));
    canvas.children(definition, definition.root, "");
    canvas.finish()
}

fn title(definition: &Definition) -> String {
    let params: Vec<String> = definition
        .params
        .iter()
        .map(|param| match &param.default {
            Some(default) => format!("{} = {default}", param.name),
            None => param.name.clone(),
        })
        .collect();
    if params.is_empty() {
        definition.name.clone()
    } else {
        format!("{}({})", definition.name, params.join(", "))
    }
}

struct Canvas<'a> {
    options: &'a DrawOptions,
    lines: Vec<Line>,
}

impl Canvas<'_> {
    /// Draws what follows in order below a heading.
    fn children(&mut self, definition: &Definition, node: NodeId, indent: &str) {
        match &definition.node(node).kind {
            NodeKind::Sequence(items) => {
                for (n, item) in items.iter().enumerate() {
                    self.node(
                        definition,
                        *item,
                        indent,
                        ["├─ ", "└─ "],
                        n + 1 == items.len(),
                    );
                }
            }
            _ => self.node(definition, node, indent, ["├─ ", "└─ "], true),
        }
    }

    fn node(
        &mut self,
        definition: &Definition,
        node: NodeId,
        indent: &str,
        forks: [&str; 2],
        last: bool,
    ) {
        let lead = format!("{indent}{}", forks[usize::from(last)]);
        let below = format!("{indent}{}", if last { "   " } else { "│  " });
        match &definition.node(node).kind {
            NodeKind::Step(step) => self.step(step, lead, &below),
            NodeKind::Sequence(items) => {
                let text = if items.is_empty() {
                    "nothing"
                } else {
                    "in order"
                };
                self.lines.push(Line::Text(format!("{lead}{text}")));
                self.children(definition, node, &below);
            }
            NodeKind::Parallel { branches, join } => {
                let text = match join {
                    Join::All => "at once",
                    Join::Any => "at once, the first that succeeds wins",
                };
                self.lines.push(Line::Text(format!("{lead}{text}")));
                for (n, branch) in branches.iter().enumerate() {
                    self.node(
                        definition,
                        *branch,
                        &below,
                        ["╞═ ", "╘═ "],
                        n + 1 == branches.len(),
                    );
                }
            }
            NodeKind::ForEach {
                over,
                body,
                max_parallel,
                tolerate,
            } => {
                let over: Vec<String> = over
                    .iter()
                    .map(|(name, list)| format!("{name} in {}", items(list)))
                    .collect();
                let mut text = format!("for each {}", over.join(" × "));
                if let Some(limit) = max_parallel {
                    text.push_str(&format!(", {limit} at a time"));
                }
                if *tolerate > 0.0 {
                    text.push_str(&format!(", {}% may fail", (tolerate * 100.0).round()));
                }
                self.lines.push(Line::Text(format!("{lead}{text}")));
                self.children(definition, *body, &below);
            }
            NodeKind::When {
                cond,
                then,
                otherwise,
            } => {
                self.lines
                    .push(Line::Text(format!("{lead}when {}", cond.0)));
                match otherwise {
                    None => self.children(definition, *then, &below),
                    Some(otherwise) => {
                        self.lines.push(Line::Text(format!("{below}├─ then")));
                        self.children(definition, *then, &format!("{below}│  "));
                        self.lines.push(Line::Text(format!("{below}└─ otherwise")));
                        self.children(definition, *otherwise, &format!("{below}   "));
                    }
                }
            }
            NodeKind::Repeat {
                body,
                until,
                max_rounds,
            } => {
                self.lines.push(Line::Text(format!(
                    "{lead}repeat until {}, at most {max_rounds} rounds",
                    until.0
                )));
                self.children(definition, *body, &below);
            }
        }
    }

    fn step(&mut self, step: &Step, lead: String, below: &str) {
        let mark = self.options.marks.get(&step.name);
        let made: Vec<&str> = step
            .outputs
            .iter()
            .map(String::as_str)
            .chain(step.produces.iter().map(|p| p.name.as_str()))
            .collect();
        let note = match mark {
            Some(mark) => mark.note.clone(),
            None => {
                let made = (!made.is_empty()).then(|| format!("→ {}", made.join(", ")));
                let place = (!step.regions.is_empty())
                    .then(|| format!("in {}", step.regions.join(", else ")));
                let parts: Vec<String> = made.into_iter().chain(place).collect();
                parts.join("  ")
            }
        };
        let kind = if step.flavour.is_empty() {
            step.kind.name()
        } else {
            &step.flavour
        };
        self.lines.push(Line::Step {
            lead,
            name: step.name.clone(),
            kind: kind.to_owned(),
            note,
            colour: mark.map(|mark| mark.colour),
        });
        if let StepKind::Workflow { definition, .. } = &step.kind {
            // Steps of another run have their own states and may have the same names.
            let options = DrawOptions {
                marks: BTreeMap::new(),
                ..self.options.clone()
            };
            let mut inner = Canvas {
                options: &options,
                lines: Vec::new(),
            };
            inner.children(definition, definition.root, below);
            self.lines.append(&mut inner.lines);
        }
    }

    fn finish(self) -> String {
        let columns = |text: &str| text.chars().count();
        let symbol = if self.options.marks.is_empty() { 0 } else { 2 };
        let steps = self.lines.iter().filter_map(|line| match line {
            Line::Step {
                lead, name, kind, ..
            } => Some((columns(lead) + symbol + columns(name), columns(kind))),
            Line::Text(_) => None,
        });
        let (name_end, kind_width) = steps.fold((0, 0), |(a, b), (c, d)| (a.max(c), b.max(d)));
        let mut out = String::new();
        for line in &self.lines {
            match line {
                Line::Text(text) => out.push_str(&cut(text, self.options.width)),
                Line::Step {
                    lead,
                    name,
                    kind,
                    note,
                    colour,
                } => {
                    let sign = match colour {
                        Some(colour) => format!("{} ", colour.symbol()),
                        None => " ".repeat(symbol),
                    };
                    let gap = " ".repeat(name_end - columns(lead) - symbol - columns(name) + 2);
                    let text = format!("{lead}{sign}{name}{gap}{kind:kind_width$}  {note}");
                    let text = cut(text.trim_end(), self.options.width);
                    out.push_str(&self.painted(&text, lead, &format!("{sign}{name}"), *colour));
                }
            }
            out.push('\n');
        }
        out
    }

    /// Colours the name, after the line was cut: codes have no width.
    fn painted(&self, text: &str, lead: &str, name: &str, colour: Option<Colour>) -> String {
        let code = match colour {
            _ if !self.options.color => return text.to_owned(),
            Some(colour) => colour.code(),
            None => "1",
        };
        match text
            .strip_prefix(lead)
            .and_then(|rest| rest.strip_prefix(name))
        {
            Some(rest) => format!("{lead}\u{1b}[{code}m{name}\u{1b}[0m{rest}"),
            None => text.to_owned(),
        }
    }
}

fn items(items: &Items) -> String {
    match items {
        Items::Computed(expression) => expression.0.clone(),
        Items::Literal(values) if values.len() <= 6 => {
            let values: Vec<String> = values.iter().map(ToString::to_string).collect();
            format!("[{}]", values.join(", "))
        }
        Items::Literal(values) => format!("{} values", values.len()),
    }
}

fn cut(text: &str, width: usize) -> String {
    if width == 0 || text.chars().count() <= width {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(width.saturating_sub(1)).collect();
    short.push('…');
    short
}
