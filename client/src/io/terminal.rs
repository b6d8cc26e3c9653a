//! Colours and the live display of `leben watch`, on a terminal alone; elsewhere one plain line for each change.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use leben_protocol::frame::{HospitalProgress, HospitalState, Progress};

use crate::show::{bytes, clean, number};
use crate::watch::{Event, state_word};

/// Bars draw at most ten times a second; what came too soon after the last drawing is drawn with the next tick.
const REDRAW: Duration = Duration::from_millis(200);

/// Prints to standard output; a reader that has gone away (`| head`) is no error.
pub fn print(text: &str) {
    let _ = try_print(text);
}

/// Prints to standard output.
///
/// # Errors
/// The reader has gone away, which ends a command that would print for ever.
pub fn try_print(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush())
}

/// Whether standard output is a terminal that wants colour (<https://no-color.org>).
pub fn is_colourful() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// A colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paint {
    /// Good.
    Green,
    /// Bad.
    Red,
    /// Worth a look.
    Yellow,
    /// A heading.
    Bold,
}

/// The text in a colour, if standard output wants any.
pub fn paint(paint: Paint, text: &str) -> String {
    if !is_colourful() {
        return text.to_owned();
    }
    let code = match paint {
        Paint::Green => 32,
        Paint::Red => 31,
        Paint::Yellow => 33,
        Paint::Bold => 1,
    };
    format!("\u{1b}[{code}m{text}\u{1b}[0m")
}

/// A bar of entries on standard error, where that is a terminal; gone when it is dropped.
pub struct Counting(ProgressBar);

impl Counting {
    /// Nothing is shown yet.
    pub fn new() -> Counting {
        let bar = ProgressBar::new(0);
        let style = ProgressStyle::with_template("{msg} {wide_bar} {human_pos} of {human_len} entries, {per_sec}");
        Counting(style.map_or(bar.clone(), |style| bar.with_style(style)))
    }

    /// So far, of so many. Another word begins anew.
    pub fn show(&self, what: &'static str, done: u64, total: u64) {
        if self.0.message() != what {
            self.0.reset();
            self.0.set_message(what);
            self.0.set_length(total);
        }
        self.0.set_position(done);
    }
}

impl Default for Counting {
    fn default() -> Self {
        Counting::new()
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// What `leben watch` shows.
pub enum Display {
    /// One JSON object a line.
    Json,
    /// One plain line for each change that a person cares about.
    Lines {
        /// The last line, not to say a thing twice.
        last: String,
    },
    /// A live display.
    Live(Box<Live>),
}

/// The live display: a bar for the stage's rounds and one for each hospital, on standard error.
pub struct Live {
    all: MultiProgress,
    stage: ProgressBar,
    hospitals: Vec<(String, ProgressBar)>,
}

impl Display {
    /// The display that fits where the output goes.
    pub fn new(json: bool) -> Display {
        if json {
            return Display::Json;
        }
        if !std::io::stdout().is_terminal() || !std::io::stderr().is_terminal() {
            return Display::Lines { last: String::new() };
        }
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10));
        let stage = all.add(ProgressBar::new(1));
        stage.set_style(style("{spinner} {prefix:.bold} [{bar:24}] {msg}"));
        stage.enable_steady_tick(REDRAW);
        Display::Live(Box::new(Live { all, stage, hospitals: Vec::new() }))
    }

    /// Shows one event.
    pub fn show(&mut self, event: &Event) {
        match self {
            Display::Json => print(&format!("{}\n", event.to_json())),
            Display::Lines { last } => {
                let line = line(event);
                if !line.is_empty() && line != *last {
                    print(&format!("{line}\n"));
                    *last = line;
                }
            }
            Display::Live(live) => live.show(event),
        }
    }

    /// Takes the live display away, so that the last words stand alone.
    pub fn finish(&mut self) {
        if let Display::Live(live) = self {
            live.stage.disable_steady_tick();
            live.hospitals.iter().for_each(|(_, bar)| bar.disable_steady_tick());
            let _ = live.all.clear();
        }
    }
}

impl Live {
    fn show(&mut self, event: &Event) {
        match event {
            Event::Running(progress) => self.running(progress),
            other => {
                self.stage.set_prefix("contract");
                self.stage.set_message(line(other));
                self.stage.tick();
            }
        }
    }

    fn running(&mut self, progress: &Progress) {
        self.stage.set_length(u64::from(progress.rounds_max.max(1)));
        self.stage.set_position(u64::from(progress.round.min(progress.rounds_max)));
        self.stage.set_prefix(stage_name(progress));
        self.stage.set_message(figures(progress));
        self.stage.tick();
        for hospital in &progress.hospitals {
            let name = clean(&hospital.party);
            let known = self.hospitals.iter().position(|(known, _)| *known == name);
            let place = known.unwrap_or_else(|| {
                let bar = self.all.add(ProgressBar::new(1));
                bar.set_style(style("    {prefix:20} [{bar:24}] {msg}"));
                bar.enable_steady_tick(REDRAW);
                bar.set_prefix(name.clone());
                self.hospitals.push((name, bar));
                self.hospitals.len() - 1
            });
            if let Some((_, bar)) = self.hospitals.get(place) {
                bar.set_length(hospital.chunks.1.max(1));
                bar.set_position(hospital_position(hospital));
                bar.set_message(state_word(hospital.state));
                bar.tick();
            }
        }
    }
}

fn hospital_position(hospital: &HospitalProgress) -> u64 {
    match hospital.state {
        HospitalState::Uploaded | HospitalState::Done => hospital.chunks.1.max(1),
        _ => hospital.chunks.0,
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> ")
}

fn stage_name(progress: &Progress) -> String {
    match &progress.stage {
        Some((id, name)) => format!("stage {id}/{} {}", progress.stages, clean(name)),
        None => clean(&progress.phase),
    }
}

fn figures(progress: &Progress) -> String {
    let mut parts = Vec::new();
    if progress.round > 0 {
        parts.push(format!("round {}", progress.round));
    }
    if let Some(loss) = progress.trace.last() {
        parts.push(format!("loss {}", number(Some(*loss))));
    }
    if progress.bytes_up + progress.bytes_down > 0 {
        parts.push(format!("{} up, {} down", bytes(progress.bytes_up), bytes(progress.bytes_down)));
    }
    if !progress.message.is_empty() {
        parts.push(clean(&progress.message));
    }
    parts.join(", ")
}

/// One event as one line; empty when it is not worth one.
pub fn line(event: &Event) -> String {
    match event {
        Event::Signing(signing) => signing.to_text(),
        Event::Funded(index) => format!("the price is in escrow (entry {index})"),
        Event::Waiting { why } => format!("waiting for the coordinator: {why}"),
        // How it ended is said by the ledger, right after.
        Event::Running(progress) if progress.ended => String::new(),
        Event::Running(progress) => {
            let away = |state| progress.hospitals.iter().filter(move |one| one.state == state);
            let trouble = away(HospitalState::Away).chain(away(HospitalState::Refused));
            let trouble: Vec<String> =
                trouble.map(|one| format!("{} {}", clean(&one.party), state_word(one.state))).collect();
            let trouble = if trouble.is_empty() { String::new() } else { format!(" [{}]", trouble.join(", ")) };
            let loss = progress.trace.last().map(|loss| format!(", loss {}", number(Some(*loss)))).unwrap_or_default();
            if progress.stage.is_none() {
                return format!("{}: {}", clean(&progress.phase), clean(&progress.message));
            }
            format!("{}: {}, round {}{loss}{trouble}", clean(&progress.phase), stage_name(progress), progress.round)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_stage_round_loss_and_the_hospital_in_trouble() {
        let progress = Progress {
            phase: "Running".into(),
            stages: 3,
            stage: Some((2, "fit".into())),
            round: 4,
            rounds_max: 25,
            trace: vec![883.512],
            hospitals: vec![HospitalProgress { party: "va".into(), state: HospitalState::Away, chunks: (0, 1) }],
            ..Progress::default()
        };
        assert_eq!(
            line(&Event::Running(Box::new(progress))),
            "Running: stage 2/3 fit, round 4, loss 883.512 [va away]"
        );
        assert_eq!(line(&Event::Funded(7)), "the price is in escrow (entry 7)");
    }
}
