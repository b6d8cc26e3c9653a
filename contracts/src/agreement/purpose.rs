//! May this data be used for that? A pure match of a request against a data set's permission; the rows are in `purpose_table.rs`.
//!
//! Codes are DUO shorthands or ids, with a parameter after `=` where the row needs one: `HMB`, `DUO:0000042`, `DS=MONDO:0005068`,
//! `GS=DE`. A code that the table does not know denies, on either side. A hospital may veto locally beyond this.

use super::purpose_table::{DUO, EHDS, Effect, EhdsRow, Row, Use};
use serde::{Deserialize, Serialize};

/// Most codes in one list.
pub const CODES_MAX: usize = 32;

/// What the data user wants the data for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Purpose {
    /// The kind of use (one or more of NRES, GRU, HMB, DS=.., POA, CC) and the conditions the user undertakes to keep (`PUB`, `IRB`, `GS=DE`, ..).
    pub duo: Vec<String>,
    /// The purpose of article 53(1) of the EHDS regulation, for example `53.1.e.ii`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ehds: Option<String>,
    /// Whether the use is commercial.
    pub commercial: bool,
    /// Whether methods, software or algorithms are developed, the training of a model included.
    pub methods_development: bool,
}

/// What an owner allows for a data set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Permission {
    /// DUO codes: at least one permission, any modifiers.
    pub duo: Vec<String>,
    /// Purposes of article 53(1) EHDS that are allowed.
    pub ehds: Vec<String>,
}

/// Why a use is denied; the first reason found, in the order of the permission's codes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Denied {
    /// A code that is not in the table.
    #[error("the code {0:?} is not in the DUO table; an unknown code denies")]
    UnknownCode(String),
    /// A heading of the ontology, not a permission.
    #[error("the code {0:?} is a heading of the ontology, not a permission; name the specific code")]
    Heading(String),
    /// A code without the parameter its row needs, or with one it does not take.
    #[error("the code {code:?} {why}")]
    Parameter {
        /// The code.
        code: String,
        /// What is wrong.
        why: &'static str,
    },
    /// More codes than [`CODES_MAX`].
    #[error("more than {CODES_MAX} codes in one list")]
    TooMany,
    /// The permission has no permission code.
    #[error("the data set names no DUO permission (NRES, GRU, HMB, DS, POA), so nothing is permitted")]
    NothingPermitted,
    /// The request says no kind of use.
    #[error("the request names no kind of use (GRU, HMB, DS, POA, CC)")]
    NothingRequested,
    /// The kind of use is not permitted.
    #[error("the use {0:?} is not among those the data set permits")]
    Use(String),
    /// The permission forbids methods development.
    #[error("{0} forbids methods development, and training a model is methods development")]
    Methods(&'static str),
    /// The permission forbids commercial use.
    #[error("{0} forbids commercial use")]
    Commercial(&'static str),
    /// The permission forbids research on population origins or ancestry.
    #[error("NPOA forbids research on population origins or ancestry")]
    Ancestry,
    /// The permission sets a condition the request does not undertake.
    #[error("the data set requires {0:?}; the purpose must name the same code to undertake it")]
    Condition(String),
    /// Not a purpose of article 53.
    #[error("{0:?} is not a purpose of article 53(1) of the EHDS regulation")]
    UnknownEhds(String),
    /// A use that article 54 prohibits.
    #[error("{0:?} is prohibited by article 54 of the EHDS regulation")]
    Prohibited(String),
    /// A purpose of article 53 that the owner did not allow.
    #[error("the EHDS purpose {0:?} is not among those the data set permits")]
    EhdsNotPermitted(String),
}

struct Parsed<'a> {
    row: &'static Row,
    parameter: Option<&'a str>,
    text: &'a str,
}

impl Parsed<'_> {
    fn same_as(&self, other: &Parsed<'_>) -> bool {
        self.row.shorthand == other.row.shorthand && self.parameter == other.parameter
    }
}

/// Whether `request` is within `permission`.
///
/// # Errors
/// The first reason against it.
pub fn permits(permission: &Permission, request: &Purpose) -> Result<(), Denied> {
    let allowed = parse_all(&permission.duo)?;
    let wanted = parse_all(&request.duo)?;
    match_uses(&allowed, &wanted)?;
    for code in &allowed {
        match_modifier(code, &wanted, request)?;
    }
    match_ehds(permission, request)
}

/// Whether every code of a permission is known, before it is offered.
///
/// # Errors
/// The first code that is not, or a permission that permits nothing.
pub fn check_permission(permission: &Permission) -> Result<(), Denied> {
    let codes = parse_all(&permission.duo)?;
    if !codes.iter().any(|c| matches!(c.row.effect, Effect::Permits(_))) {
        return Err(Denied::NothingPermitted);
    }
    if permission.ehds.len() > CODES_MAX {
        return Err(Denied::TooMany);
    }
    permission.ehds.iter().try_for_each(|code| ehds_row(code).map(|_| ()))
}

fn parse_all(codes: &[String]) -> Result<Vec<Parsed<'_>>, Denied> {
    if codes.len() > CODES_MAX {
        return Err(Denied::TooMany);
    }
    codes.iter().map(|code| parse(code)).collect()
}

fn parse(text: &str) -> Result<Parsed<'_>, Denied> {
    let (name, parameter) = text.split_once('=').map_or((text, None), |(n, p)| (n, Some(p)));
    let row = DUO
        .iter()
        .find(|row| row.id == name || (!row.shorthand.is_empty() && row.shorthand == name))
        .ok_or_else(|| Denied::UnknownCode(shown(text)))?;
    let wrong = |why| Err(Denied::Parameter { code: shown(text), why });
    match parameter {
        _ if matches!(row.effect, Effect::Heading) => Err(Denied::Heading(shown(text))),
        None if row.parameter => wrong("needs a parameter after '=', for example DS=MONDO:0005068 or GS=DE"),
        Some(_) if !row.parameter => wrong("takes no parameter"),
        Some(p) if p.is_empty() || p.len() > 64 || !p.bytes().all(|b| b.is_ascii_graphic()) => {
            wrong("needs a parameter of 1 to 64 printable characters without spaces")
        }
        _ => Ok(Parsed { row, parameter, text }),
    }
}

fn shown(text: &str) -> String {
    text.chars().take(80).collect()
}

fn match_uses(allowed: &[Parsed<'_>], wanted: &[Parsed<'_>]) -> Result<(), Denied> {
    if !allowed.iter().any(|c| matches!(c.row.effect, Effect::Permits(_))) {
        return Err(Denied::NothingPermitted);
    }
    let mut any = false;
    for want in wanted.iter().filter(|w| w.row.is_use.is_some()) {
        any = true;
        let granted = |have: &Parsed<'_>| match have.row.effect {
            Effect::Permits(list) | Effect::AlsoPermits(list) => want.row.is_use.is_some_and(|u| {
                // A disease is matched by name: no ontology is at hand to say that one includes another.
                list.contains(&u) && (have.row.is_use != Some(Use::Disease) || have.same_as(want))
            }),
            _ => false,
        };
        if !allowed.iter().any(granted) {
            return Err(Denied::Use(shown(want.text)));
        }
    }
    if any { Ok(()) } else { Err(Denied::NothingRequested) }
}

fn match_modifier(code: &Parsed<'_>, wanted: &[Parsed<'_>], request: &Purpose) -> Result<(), Denied> {
    let undertaken = || wanted.iter().any(|w| w.same_as(code));
    match code.row.effect {
        Effect::ForbidsMethods if request.methods_development => Err(Denied::Methods(code.row.shorthand)),
        Effect::ForbidsCommercial { .. } if request.commercial => Err(Denied::Commercial(code.row.shorthand)),
        Effect::ForbidsCommercial { undertake: true } if !undertaken() => Err(Denied::Condition(shown(code.text))),
        Effect::ForbidsAncestry => {
            let touches = |w: &Parsed<'_>| matches!(w.row.is_use, Some(Use::Any | Use::General | Use::Ancestry));
            let only = wanted.iter().any(|w| w.row.is_use == Some(Use::Ancestry));
            // A general request may include ancestry, unless it undertakes not to.
            if only || (wanted.iter().any(touches) && !undertaken()) { Err(Denied::Ancestry) } else { Ok(()) }
        }
        Effect::Requires if !undertaken() => Err(Denied::Condition(shown(code.text))),
        _ => Ok(()),
    }
}

fn ehds_row(code: &str) -> Result<&'static EhdsRow, Denied> {
    match EHDS.iter().find(|row| row.code == code) {
        None => Err(Denied::UnknownEhds(shown(code))),
        Some(row) if row.prohibited => Err(Denied::Prohibited(shown(code))),
        Some(row) => Ok(row),
    }
}

fn match_ehds(permission: &Permission, request: &Purpose) -> Result<(), Denied> {
    for code in &permission.ehds {
        ehds_row(code)?;
    }
    let Some(wanted) = &request.ehds else { return Ok(()) };
    ehds_row(wanted)?;
    let covers =
        |have: &String| have == wanted || wanted.strip_prefix(have.as_str()).is_some_and(|rest| rest.starts_with('.'));
    if permission.ehds.iter().any(covers) { Ok(()) } else { Err(Denied::EhdsNotPermitted(shown(wanted))) }
}

#[cfg(test)]
#[path = "purpose_tests.rs"]
mod tests;
