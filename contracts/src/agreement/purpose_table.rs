//! The rows behind `purpose.rs`: the 25 rows of the GA4GH Data Use Ontology (EBISPOT/DUO, `duo.csv`) and articles 53(1) and 54 of
//! Regulation (EU) 2025/327 on the European Health Data Space. Labels are shortened.

/// A kind of use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// Without restriction.
    Any,
    /// Any research.
    General,
    /// Health, medical or biomedical research.
    Health,
    /// Research on one disease.
    Disease,
    /// Population origins or ancestry.
    Ancestry,
    /// Clinical care.
    Care,
}

/// What a row does when it stands in a permission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// A heading: never usable.
    Heading,
    /// Permits these uses.
    Permits(&'static [Use]),
    /// Permits these uses beside a permission.
    AlsoPermits(&'static [Use]),
    /// The request must name the same code.
    Requires,
    /// Forbids methods development.
    ForbidsMethods,
    /// Forbids commercial use; `undertake` if the request must name the code as well.
    ForbidsCommercial {
        /// Whether the request must name the code.
        undertake: bool,
    },
    /// Forbids research on origins or ancestry.
    ForbidsAncestry,
}

/// One row of the ontology.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// Id in the ontology.
    pub id: &'static str,
    /// Shorthand, empty for headings.
    pub shorthand: &'static str,
    /// What it says.
    pub label: &'static str,
    /// Whether a parameter after `=` is needed.
    pub parameter: bool,
    /// The kind of use it names, if any.
    pub is_use: Option<Use>,
    /// What it does in a permission.
    pub effect: Effect,
}

/// One purpose of article 53(1), or one prohibition of article 54.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EhdsRow {
    /// Article, paragraph, letter.
    pub code: &'static str,
    /// What it says.
    pub label: &'static str,
    /// Whether it is a prohibition.
    pub prohibited: bool,
}

use Effect::{AlsoPermits, ForbidsAncestry, ForbidsCommercial, ForbidsMethods, Heading, Permits, Requires};
use Use::{Ancestry, Any, Care, Disease, General, Health};

const fn row(
    id: &'static str,
    shorthand: &'static str,
    label: &'static str,
    parameter: bool,
    is_use: Option<Use>,
    effect: Effect,
) -> Row {
    Row { id, shorthand, label, parameter, is_use, effect }
}

/// The ontology, by id.
pub const DUO: &[Row] = &[
    row("DUO:0000001", "", "data use permission", false, None, Heading),
    row(
        "DUO:0000004",
        "NRES",
        "no restriction",
        false,
        Some(Any),
        Permits(&[Any, General, Health, Disease, Ancestry, Care]),
    ),
    row(
        "DUO:0000006",
        "HMB",
        "health, medical or biomedical research",
        false,
        Some(Health),
        Permits(&[Health, Disease]),
    ),
    row("DUO:0000007", "DS", "research on this disease only", true, Some(Disease), Permits(&[Disease])),
    row(
        "DUO:0000011",
        "POA",
        "population origins or ancestry research only",
        false,
        Some(Ancestry),
        Permits(&[Ancestry]),
    ),
    row("DUO:0000012", "RS", "this type of research only", true, None, Requires),
    row("DUO:0000015", "NMDS", "no general methods research", false, None, ForbidsMethods),
    row("DUO:0000016", "GSO", "genetic studies only", false, None, Requires),
    row("DUO:0000017", "", "data use modifier", false, None, Heading),
    row(
        "DUO:0000018",
        "NPUNCU",
        "not-for-profit organisations and non-commercial use only",
        false,
        None,
        ForbidsCommercial { undertake: true },
    ),
    row("DUO:0000019", "PUB", "results must be published", false, None, Requires),
    row("DUO:0000020", "COL", "collaboration with the investigators required", false, None, Requires),
    row("DUO:0000021", "IRB", "ethics approval required", false, None, Requires),
    row("DUO:0000022", "GS", "this region only", true, None, Requires),
    row("DUO:0000024", "MOR", "no publication before this date", true, None, Requires),
    row("DUO:0000025", "TS", "for this many months only", true, None, Requires),
    row("DUO:0000026", "US", "these users only", true, None, Requires),
    row("DUO:0000027", "PS", "this project only", true, None, Requires),
    row("DUO:0000028", "IS", "this institution only", true, None, Requires),
    row("DUO:0000029", "RTN", "derived data must be returned", false, None, Requires),
    row(
        "DUO:0000042",
        "GRU",
        "general research use",
        false,
        Some(General),
        Permits(&[General, Health, Disease, Ancestry]),
    ),
    row("DUO:0000043", "CC", "clinical care", false, Some(Care), AlsoPermits(&[Care])),
    row("DUO:0000044", "NPOA", "no population origins or ancestry research", false, None, ForbidsAncestry),
    row("DUO:0000045", "NPU", "not-for-profit organisations only", false, None, Requires),
    row("DUO:0000046", "NCU", "non-commercial use only", false, None, ForbidsCommercial { undertake: false }),
];

const fn purpose(code: &'static str, label: &'static str) -> EhdsRow {
    EhdsRow { code, label, prohibited: false }
}

const fn prohibition(code: &'static str, label: &'static str) -> EhdsRow {
    EhdsRow { code, label, prohibited: true }
}

/// Articles 53(1) and 54.
pub const EHDS: &[EhdsRow] = &[
    purpose("53.1.a", "public interest in public or occupational health"),
    purpose("53.1.b", "policy making and regulatory activities of public bodies"),
    purpose("53.1.c", "statistics on health or care"),
    purpose("53.1.d", "education or teaching in health or care, vocational or higher"),
    purpose("53.1.e", "scientific research on health or care"),
    purpose("53.1.e.i", "development and innovation of products or services"),
    purpose("53.1.e.ii", "training, testing and evaluating algorithms"),
    purpose("53.1.f", "improving care, its optimisation, and care of others"),
    prohibition("54.a", "decisions detrimental to a person or a group"),
    prohibition("54.b", "job offers, worse terms of goods or services, insurance or credit"),
    prohibition("54.c", "advertising or marketing"),
    prohibition("54.d", "products or services that harm people or society"),
    prohibition("54.e", "activities in conflict with ethical provisions of national law"),
];
