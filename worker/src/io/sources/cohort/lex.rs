//! The words of a cohort condition, each with its place.

use super::{CohortError, TESTS, Test};

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    /// A word or a name in double quotes (the flag), as written.
    Word(String, bool),
    Number(f64),
    Text(String),
    Test(Test),
    Open,
    Close,
    Comma,
}

/// Tokens with their places, in characters from 1.
pub(super) fn lex(text: &str) -> Result<Vec<(usize, Token)>, CohortError> {
    let chars: Vec<char> = text.chars().collect();
    let mut tokens = Vec::new();
    let mut i = 0;
    while let Some(c) = chars.get(i).copied() {
        let at = i + 1;
        let run = |from: usize, accept: &dyn Fn(char) -> bool| -> String {
            chars.iter().skip(from).take_while(|c| accept(**c)).collect()
        };
        let token = match c {
            _ if c.is_whitespace() => {
                i += 1;
                continue;
            }
            '(' => Token::Open,
            ')' => Token::Close,
            ',' => Token::Comma,
            '"' | '\'' => {
                let inside = run(at, &|other| other != c);
                i = at + inside.chars().count();
                if chars.get(i) != Some(&c) {
                    return Err(CohortError::Syntax { at, expected: "a closing quote for the one here" });
                }
                i += 1;
                tokens.push((at, if c == '"' { Token::Word(inside, true) } else { Token::Text(inside) }));
                continue;
            }
            '=' | '!' | '<' | '>' => {
                let sign = run(i, &|c| matches!(c, '=' | '!' | '<' | '>'));
                i += sign.chars().count();
                tokens.push((at, Token::Test(test(&sign).ok_or(CohortError::Syntax { at, expected: TESTS })?)));
                continue;
            }
            _ if c.is_alphabetic() || c == '_' => {
                let word = run(i, &|c| c.is_alphanumeric() || matches!(c, '_' | '.'));
                i += word.chars().count();
                tokens.push((at, Token::Word(word, false)));
                continue;
            }
            _ => {
                let number = run(i, &|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
                let value = number.parse().ok().filter(|value: &f64| value.is_finite());
                let value = value.ok_or(CohortError::Syntax { at, expected: "a column, a number or a bracket" })?;
                i += number.chars().count();
                tokens.push((at, Token::Number(value)));
                continue;
            }
        };
        tokens.push((at, token));
        i += 1;
    }
    Ok(tokens)
}

fn test(sign: &str) -> Option<Test> {
    match sign {
        "=" | "==" => Some(Test::Equal),
        "!=" | "<>" => Some(Test::Different),
        "<" => Some(Test::Less),
        "<=" => Some(Test::LessOrEqual),
        ">" => Some(Test::Greater),
        ">=" => Some(Test::GreaterOrEqual),
        _ => None,
    }
}
