//! Terms as the words a person signs. The text is a pure function of the terms, and every field of the terms is in it, so
//! `text_hash` ties what was read to what runs.

use super::purpose::Purpose;
use super::purpose_table::{DUO, EHDS};
use super::terms::{Algorithm, Input, OnDrop, OnFailure, Param, Stage, Terms};
use std::fmt::Write as _;

impl Terms {
    /// The terms in plain English, lines ending in LF.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = String::from("DATA USE CONTRACT\n");
        // Writing to a String cannot fail.
        let _ = self.write_text(&mut out);
        out
    }

    fn write_text(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "\nParties")?;
        for p in &self.parties {
            let roles: Vec<String> = p.roles.iter().map(|r| r.as_str().replace('_', " ")).collect();
            writeln!(out, "  {} as {}", p.party, roles.join(", "))?;
        }
        write_purpose(&self.purpose, out)?;
        writeln!(out, "\nData")?;
        self.inputs.iter().try_for_each(|i| write_input(i, out))?;
        writeln!(out, "\nAlgorithms")?;
        self.algorithms.iter().try_for_each(|a| write_algorithm(a, out))?;
        writeln!(out, "\nStages")?;
        self.stages.iter().try_for_each(|s| write_stage(s, out))?;
        self.write_privacy(out)?;
        self.write_price(out)?;
        self.write_delivery(out)
    }

    fn write_privacy(&self, out: &mut String) -> std::fmt::Result {
        let p = &self.privacy;
        writeln!(out, "\nPrivacy")?;
        if p.secure_sum {
            writeln!(
                out,
                "  Only the sum over at least {} hospitals can be read (secure sum, threshold {}).",
                p.hospitals_min, p.threshold
            )?;
        } else {
            writeln!(
                out,
                "  One hospital's aggregate leaves it as it is: the secure sum is off (at least {} hospital).",
                p.hospitals_min
            )?;
        }
        let d = &p.disclosure;
        writeln!(
            out,
            "  Results without noise: no group of fewer than {} patients, none of fewer than {} hospitals; what would tell of one is withheld, and said to be.",
            d.cell_min, d.cell_hospitals_min
        )?;
        match d.dominance_percent {
            0 => writeln!(out, "  One patient may outweigh the others in what a hospital adds up.")?,
            p => writeln!(out, "  A hospital where one patient outweighs the others takes no part (p % rule, {p} %).")?,
        }
        if p.epsilon_micro == 0 {
            writeln!(out, "  No differential privacy (mechanism {}, delta {} / 10^12).", p.mechanism, p.delta_e12)
        } else {
            let (epsilon, delta) = (decimal(p.epsilon_micro, 6), decimal(p.delta_e12, 12));
            writeln!(
                out,
                "  Differential privacy by {}: epsilon {epsilon} for each data set at delta {delta}.",
                p.mechanism
            )?;
            writeln!(
                out,
                "  Each hospital computes what the stages' noise gives, and counts it against its own budget."
            )
        }
    }

    fn write_price(&self, out: &mut String) -> std::fmt::Result {
        let price = &self.price;
        writeln!(out, "\nPrice")?;
        writeln!(
            out,
            "  {} credits in total, and a deposit of {} credits that is returned unless arbiters decide otherwise.",
            price.total_credits, price.deposit
        )?;
        match price.per_round {
            0 => writeln!(out, "  Earned stage by stage; what is not earned is returned.")?,
            n => writeln!(out, "  Earned at {n} credits a completed round, up to the total; the rest is returned.")?,
        }
        for s in &price.splits {
            writeln!(out, "  {} receives {}.{:02} %.", s.party, s.basis_points / 100, s.basis_points % 100)?;
        }
        Ok(())
    }

    fn write_delivery(&self, out: &mut String) -> std::fmt::Result {
        let d = &self.delivery;
        let outputs: Vec<&str> = d.outputs.iter().map(AsRef::as_ref).collect();
        writeln!(out, "\nDelivery")?;
        writeln!(out, "  To {}, encrypted to the key {}.", d.recipient, d.sealing)?;
        writeln!(out, "  Outputs: {}.", outputs.join(", "))?;
        writeln!(
            out,
            "  {}",
            if d.review {
                "Somebody at each hospital whose data is in the output looks at it and lets it go before it leaves."
            } else {
                "The output is not reviewed by a person."
            }
        )?;
        writeln!(out, "  The recipient deletes it by {}.", utc(d.delete_by_ms))?;
        let w = &self.windows;
        writeln!(out, "\nTime")?;
        writeln!(out, "  Signed by everybody by {}.", utc(w.sign_by_ms))?;
        writeln!(out, "  Run and delivered by {}.", utc(w.run_by_ms))?;
        writeln!(out, "  Accepted or disputed within {} of delivery; silence accepts.", duration(w.accept_within_ms))?;
        writeln!(
            out,
            "\nDisputes are decided by a majority of the arbiters named above, or, if none is named, of the network's admins."
        )?;
        writeln!(out, "A hospital may suspend this contract, or withdraw its own data, at any time before delivery.")?;
        writeln!(out, "Format version {}.", self.v)
    }
}

fn write_purpose(p: &Purpose, out: &mut String) -> std::fmt::Result {
    writeln!(out, "\nPurpose")?;
    for code in &p.duo {
        let name = code.split('=').next().unwrap_or_default();
        let row = DUO.iter().find(|r| r.id == name || (!r.shorthand.is_empty() && r.shorthand == name));
        writeln!(out, "  {code}: {}", row.map_or("unknown code", |r| r.label))?;
    }
    match &p.ehds {
        Some(code) => {
            let row = EHDS.iter().find(|r| r.code == *code);
            writeln!(out, "  EHDS {code}: {}", row.map_or("unknown code", |r| r.label))?;
        }
        None => writeln!(out, "  No EHDS purpose is claimed.")?,
    }
    writeln!(out, "  {} use.", if p.commercial { "Commercial" } else { "Non-commercial" })?;
    writeln!(out, "  Methods development: {}.", if p.methods_development { "yes" } else { "no" })
}

fn write_input(i: &Input, out: &mut String) -> std::fmt::Result {
    writeln!(out, "  {}: data set {} of {} (schema {})", i.id, i.dataset, i.owner, i.schema_hash)?;
    let cohort = if i.cohort.is_empty() { "all rows" } else { &i.cohort };
    writeln!(out, "    rows: {cohort}; at most {}, at least {}", i.row_cap, i.cohort_min)?;
    writeln!(out, "    columns: {}", i.columns.join(", "))
}

fn write_algorithm(a: &Algorithm, out: &mut String) -> std::fmt::Result {
    writeln!(out, "  {}: {} {} (digest {})", a.id, a.name, a.version, a.digest)?;
    for (key, value) in &a.params {
        match value {
            Param::Integer(n) => writeln!(out, "    {key} = {n}")?,
            Param::Text(t) => writeln!(out, "    {key} = \"{t}\"")?,
        }
    }
    Ok(())
}

fn write_stage(s: &Stage, out: &mut String) -> std::fmt::Result {
    writeln!(out, "  {}. {}: {} run by {}", s.id, s.name, s.algorithm, s.executor)?;
    let inputs: Vec<&str> = s.inputs.iter().map(AsRef::as_ref).collect();
    let after: Vec<String> = s.after.iter().map(ToString::to_string).collect();
    let or_none = |text: String| if text.is_empty() { "none".to_owned() } else { text };
    writeln!(out, "    inputs: {}; after stages: {}", or_none(inputs.join(", ")), or_none(after.join(", ")))?;
    if let Some(from) = s.state_from {
        writeln!(out, "    starts from the output of stage {from}")?;
    }
    writeln!(out, "    at most {} rounds, {} a try, {} more tries", s.rounds_max, duration(s.timeout_ms), s.retries)?;
    let failure = match s.on_failure {
        OnFailure::Abort => "ends the contract",
        OnFailure::Continue => "lets the others go on",
    };
    let drop = match s.on_drop {
        OnDrop::Continue => "is left out of that round",
        OnDrop::Repeat => "makes that round be repeated",
    };
    writeln!(out, "    failure {failure}; a hospital that drops out {drop}")
}

/// A number in units of 10^-`places` as a decimal number without trailing zeros.
fn decimal(number: u64, places: usize) -> String {
    let digits = format!("{number:0>width$}", width = places + 1);
    let (whole, part) = digits.split_at(digits.len() - places);
    format!("{whole}.{part}").trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A duration, exact, in the largest unit that divides it.
fn duration(ms: u64) -> String {
    match ms {
        ms if ms % 86_400_000 == 0 => format!("{} d", ms / 86_400_000),
        ms if ms % 3_600_000 == 0 => format!("{} h", ms / 3_600_000),
        ms if ms % 60_000 == 0 => format!("{} min", ms / 60_000),
        ms if ms % 1000 == 0 => format!("{} s", ms / 1000),
        ms => format!("{ms} ms"),
    }
}

/// A time as ISO 8601 in UTC (proleptic Gregorian; the civil-from-days algorithm of H. Hinnant).
pub fn utc(ms: u64) -> String {
    let (days, in_day) = (ms / 86_400_000, ms % 86_400_000);
    let z = days + 719_468;
    let (era, day_of_era) = (z / 146_097, z % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let mp = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (h, m, s, milli) = (in_day / 3_600_000, in_day / 60_000 % 60, in_day / 1000 % 60, in_day % 1000);
    format!("{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}.{milli:03}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        assert_eq!(utc(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(utc(951_782_400_000), "2000-02-29T00:00:00.000Z");
        assert_eq!(utc(1_767_225_599_999), "2025-12-31T23:59:59.999Z");
        assert_eq!(duration(90_000), "90 s");
        assert_eq!(duration(1), "1 ms");
    }

    #[test]
    fn decimals() {
        assert_eq!([decimal(3_000_000, 6), decimal(0, 6), decimal(1, 6)], ["3", "0", "0.000001"]);
        assert_eq!([decimal(1_000_000, 12), decimal(12_500_000, 6)], ["0.000001", "12.5"]);
    }
}
