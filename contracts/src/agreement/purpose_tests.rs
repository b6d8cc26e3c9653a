use super::*;

fn permission(duo: &[&str], ehds: &[&str]) -> Permission {
    let own = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect();
    Permission { duo: own(duo), ehds: own(ehds) }
}

fn request(duo: &[&str]) -> Purpose {
    let duo = duo.iter().map(|s| (*s).to_owned()).collect();
    Purpose { duo, ehds: None, commercial: false, methods_development: false }
}

#[test]
fn the_table_is_the_ontology() {
    assert_eq!(DUO.len(), 25);
    for (i, a) in DUO.iter().enumerate() {
        for b in DUO.iter().skip(i + 1) {
            assert!(a.id < b.id, "{} before {}", a.id, b.id);
            assert!(a.shorthand.is_empty() || a.shorthand != b.shorthand);
        }
    }
    assert_eq!(EHDS.iter().filter(|r| r.prohibited).count(), 5);
}

/// Permission (rows) against use (columns), written out from the ontology's definitions.
#[test]
fn every_permission_against_every_use() {
    let uses = ["NRES", "GRU", "HMB", "DS=MONDO:1", "DS=MONDO:2", "POA", "CC"];
    let table: [(&str, [bool; 7]); 5] = [
        ("NRES", [true, true, true, true, true, true, true]),
        ("GRU", [false, true, true, true, true, true, false]),
        ("HMB", [false, false, true, true, true, false, false]),
        ("DS=MONDO:1", [false, false, false, true, false, false, false]),
        ("POA", [false, false, false, false, false, true, false]),
    ];
    for (have, row) in table {
        for (want, expected) in uses.into_iter().zip(row) {
            assert_eq!(permits(&permission(&[have], &[]), &request(&[want])).is_ok(), expected, "{have} -> {want}");
        }
    }
    assert_eq!(permits(&permission(&["HMB", "CC"], &[]), &request(&["CC"])), Ok(()));
    assert_eq!(permits(&permission(&["CC"], &[]), &request(&["CC"])), Err(Denied::NothingPermitted));
    assert!(permits(&permission(&["HMB"], &[]), &request(&["HMB", "POA"])).is_err());
}

#[test]
fn an_unknown_code_denies_on_either_side() {
    let unknown = |code: &str| Err(Denied::UnknownCode(code.to_owned()));
    assert_eq!(permits(&permission(&["GRU", "XYZ"], &[]), &request(&["GRU"])), unknown("XYZ"));
    assert_eq!(permits(&permission(&["GRU"], &[]), &request(&["GRU", "hmb"])), unknown("hmb"));
    assert_eq!(permits(&permission(&["DUO:0000005"], &[]), &request(&["GRU"])), unknown("DUO:0000005"));
    assert_eq!(permits(&permission(&["GRU", ""], &[]), &request(&["GRU"])), unknown(""));
    assert!(matches!(permits(&permission(&["DUO:0000001"], &[]), &request(&["GRU"])), Err(Denied::Heading(_))));
    assert_eq!(permits(&permission(&[], &[]), &request(&["GRU"])), Err(Denied::NothingPermitted));
    assert_eq!(permits(&permission(&["GRU"], &[]), &request(&["PUB"])), Err(Denied::NothingRequested));
    let many: Vec<&str> = vec!["GRU"; CODES_MAX + 1];
    assert_eq!(permits(&permission(&many, &[]), &request(&["GRU"])), Err(Denied::TooMany));
}

#[test]
fn nmds_forbids_methods_development() {
    let with = permission(&["GRU", "NMDS"], &[]);
    assert_eq!(permits(&with, &request(&["GRU"])), Ok(()));
    let train = Purpose { methods_development: true, ..request(&["GRU"]) };
    assert_eq!(permits(&with, &train), Err(Denied::Methods("NMDS")));
    assert_eq!(permits(&permission(&["GRU"], &[]), &train), Ok(()));
}

#[test]
fn commerce() {
    let sells = |duo: &[&str]| Purpose { commercial: true, ..request(duo) };
    for code in ["NCU", "NPUNCU"] {
        let p = permission(&["GRU", code], &[]);
        assert_eq!(permits(&p, &sells(&["GRU", code])), Err(Denied::Commercial(code)));
        assert_eq!(permits(&p, &request(&["GRU", code])), Ok(()));
    }
    assert_eq!(permits(&permission(&["GRU", "NCU"], &[]), &request(&["GRU"])), Ok(()));
    assert!(permits(&permission(&["GRU", "NPUNCU"], &[]), &request(&["GRU"])).is_err());
    assert!(permits(&permission(&["GRU", "NPU"], &[]), &request(&["GRU"])).is_err());
}

#[test]
fn every_condition_must_be_undertaken_with_the_same_parameter() {
    for row in DUO.iter().filter(|r| r.effect == Effect::Requires) {
        let with =
            |value: &str| if row.parameter { format!("{}={value}", row.shorthand) } else { row.shorthand.to_owned() };
        let p = permission(&["GRU", &with("DE")], &[]);
        assert_eq!(permits(&p, &request(&["GRU", &with("DE")])), Ok(()), "{}", row.shorthand);
        assert_eq!(permits(&p, &request(&["GRU"])), Err(Denied::Condition(with("DE"))));
        if row.parameter {
            assert!(permits(&p, &request(&["GRU", &with("FR")])).is_err());
            assert!(matches!(
                permits(&permission(&["GRU", row.shorthand], &[]), &request(&["GRU"])),
                Err(Denied::Parameter { .. })
            ));
        }
        let by_id = p.duo.last().unwrap().replace(row.shorthand, row.id);
        assert_eq!(permits(&p, &request(&["GRU", &by_id])), Ok(()), "an id is the same code as its shorthand");
    }
}

#[test]
fn ancestry() {
    let p = permission(&["GRU", "NPOA"], &[]);
    assert_eq!(permits(&p, &request(&["POA"])), Err(Denied::Ancestry));
    assert_eq!(permits(&p, &request(&["POA", "NPOA"])), Err(Denied::Ancestry));
    assert_eq!(permits(&p, &request(&["GRU"])), Err(Denied::Ancestry));
    assert_eq!(permits(&p, &request(&["GRU", "NPOA"])), Ok(()));
    assert_eq!(permits(&p, &request(&["HMB"])), Ok(()));
}

#[test]
fn ehds_articles() {
    let ask = |code: &str| Purpose { ehds: Some(code.to_owned()), ..request(&["GRU"]) };
    let p = permission(&["GRU"], &["53.1.e"]);
    assert_eq!(permits(&p, &ask("53.1.e.ii")), Ok(()));
    assert_eq!(permits(&p, &ask("53.1.a")), Err(Denied::EhdsNotPermitted("53.1.a".into())));
    assert_eq!(
        permits(&permission(&["GRU"], &["53.1.e.i"]), &ask("53.1.e")),
        Err(Denied::EhdsNotPermitted("53.1.e".into()))
    );
    assert_eq!(permits(&permission(&["GRU"], &[]), &ask("53.1.e")), Err(Denied::EhdsNotPermitted("53.1.e".into())));
    for row in EHDS.iter().filter(|r| r.prohibited) {
        assert!(matches!(permits(&p, &ask(row.code)), Err(Denied::Prohibited(_))));
        assert!(check_permission(&permission(&["GRU"], &[row.code])).is_err());
    }
    assert!(matches!(permits(&p, &ask("53.1.z")), Err(Denied::UnknownEhds(_))));
    assert!(matches!(permits(&permission(&["GRU"], &["x"]), &request(&["GRU"])), Err(Denied::UnknownEhds(_))));
}
