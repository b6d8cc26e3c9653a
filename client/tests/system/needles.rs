//! Finds planted values and private keys in any bytes, in every form in which a program might let them slip.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

/// Every needle is at least this long, so that chance does not find it.
const START_BYTES: usize = 8;

/// What is searched for.
#[derive(Default)]
pub struct Needles {
    all: Vec<(String, Vec<u8>)>,
    by_start: HashMap<[u8; START_BYTES], Vec<usize>>,
    /// Whether a needle starts with these two bytes: most positions are passed over with one look.
    starts: Vec<bool>,
}

impl Needles {
    /// Some bytes under a name.
    pub fn add(&mut self, name: &str, bytes: &[u8]) {
        let start = *bytes.first_chunk::<START_BYTES>().expect("a needle is long enough not to be found by chance");
        self.starts.resize(1 << 16, false);
        self.starts[usize::from(u16::from_le_bytes([start[0], start[1]]))] = true;
        self.by_start.entry(start).or_default().push(self.all.len());
        self.all.push((name.to_owned(), bytes.to_vec()));
    }

    /// A text: as it is, and in base64 wherever in a longer text it stands (the ledger's envelopes are base64).
    pub fn add_text(&mut self, text: &str) {
        self.add(&format!("'{text}'"), text.as_bytes());
        self.add_base64(&format!("'{text}' in base64"), text.as_bytes());
    }

    /// A number: as text, as floats and as fixed point, in both byte orders. Forms too short to be searched for alone are
    /// searched for twice in a row: the planted cells are two by two, so both rows and columns hold such a pair.
    pub fn add_number(&mut self, text: &str) {
        let number: f64 = text.parse().unwrap();
        assert_eq!(number.to_string(), text, "what a program would print");
        self.add_text(text);
        // As an f32 prints it, and as a rounded report would.
        self.add_text(&text[..9]);
        self.both_orders(&format!("{text} as f64"), &number.to_be_bytes());
        let short = (number as f32).to_be_bytes();
        self.both_orders(&format!("{text} as f32, twice"), &[short, short].concat());
        for fraction_bits in 8..=52 {
            let scaled = number * (1u64 << fraction_bits) as f64;
            if scaled >= 2f64.powi(62) {
                break;
            }
            let fixed = (scaled.round_ties_even() as u64).to_be_bytes();
            let name = format!("{text} with {fraction_bits} fraction bits");
            match fixed[..3] == [0; 3] {
                true => self.both_orders(&format!("{name}, twice"), &[fixed, fixed].concat()),
                false => self.both_orders(&name, &fixed),
            }
        }
    }

    /// A private key's 32 bytes: raw, hex, base64.
    pub fn add_key(&mut self, name: &str, seed: &[u8]) {
        self.add(name, seed);
        self.add(&format!("{name} in hex"), hex::encode(seed).as_bytes());
        self.add(&format!("{name} in HEX"), hex::encode_upper(seed).as_bytes());
        self.add_base64(&format!("{name} in base64"), seed);
        // The file holds hex: what if the file is sent on in an envelope?
        self.add_base64(&format!("{name} in hex in base64"), hex::encode(seed).as_bytes());
    }

    fn both_orders(&mut self, name: &str, big_endian: &[u8]) {
        self.add(&format!("{name}, big endian"), big_endian);
        let mut little: Vec<u8> = big_endian.to_vec();
        little.reverse();
        self.add(&format!("{name}, little endian"), &little);
    }

    /// The characters that depend on the needle alone, at each of the three places that its start can have in a group.
    fn add_base64(&mut self, name: &str, bytes: &[u8]) {
        for before in 0..3usize {
            let padded = [&[0; 3][..before], bytes].concat();
            let (from, to) = ((before * 8).div_ceil(6), padded.len() * 8 / 6);
            let standard = STANDARD_NO_PAD.encode(&padded);
            let url_safe = URL_SAFE_NO_PAD.encode(&padded);
            self.add(name, &standard.as_bytes()[from..to]);
            if url_safe != standard {
                self.add(name, &url_safe.as_bytes()[from..to]);
            }
        }
    }

    /// The names of all needles in these bytes, each once.
    pub fn find(&self, bytes: &[u8]) -> Vec<&str> {
        let mut found = Vec::new();
        for at in 0..bytes.len().saturating_sub(START_BYTES - 1) {
            if !self.starts[usize::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]))] {
                continue;
            }
            let Some(numbers) = bytes[at..].first_chunk().and_then(|start| self.by_start.get(start)) else { continue };
            for (name, needle) in numbers.iter().map(|number| &self.all[*number]) {
                if bytes[at..].starts_with(needle) && !found.contains(&name.as_str()) {
                    found.push(name);
                }
            }
        }
        found
    }
}

#[test]
fn every_form_of_a_leak_is_found_and_nothing_else() {
    let mut needles = Needles::default();
    needles.add_number("57.271828182845");
    needles.add_text("Xanthippe Oyelaran");
    needles.add_key("a key", &[0xa7; 32]);
    let value = 57.271_828_182_845_f64;
    let fixed = (value * 2f64.powi(44)).round() as u64;
    let wide = (value * 2f64.powi(12)).round() as u64;
    let leaks: [Vec<u8>; 9] = [
        b"{\"age\":57.271828182845}".to_vec(),
        format!("{:?}", value as f32).into_bytes(),
        [&[1, 2, 3][..], &value.to_le_bytes()].concat(),
        [&[9][..], &(value as f32).to_le_bytes(), &(value as f32).to_le_bytes()].concat(),
        [&[0; 5][..], &fixed.to_le_bytes()].concat(),
        [wide.to_le_bytes(), wide.to_le_bytes()].concat(),
        STANDARD_NO_PAD.encode(b"{\"name\":\"Xanthippe Oyelaran\"}").into_bytes(),
        [&b"seed="[..], hex::encode([0xa7; 32]).as_bytes()].concat(),
        URL_SAFE_NO_PAD.encode([&[4][..], &[0xa7; 32], &[8]].concat()).into_bytes(),
    ];
    for leak in &leaks {
        assert!(!needles.find(leak).is_empty(), "{leak:?}");
    }
    let harmless = format!("age 57.3, {} and {}", value + 1e-3, "Xanthippe O.").into_bytes();
    assert_eq!(needles.find(&harmless), Vec::<&str>::new());
}
