//! What a registry answers when it wants to know who asks (`WWW-Authenticate`).

/// One way to authenticate that a registry offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    /// Fetch a token from a service first.
    Bearer {
        realm: String,
        service: Option<String>,
        scope: Option<String>,
    },
    /// Send user name and password.
    Basic,
}

/// Parses a `WWW-Authenticate` header (RFC 9110, 11.6.1); schemes that are not
/// known, and what is malformed, are left out.
pub(super) fn parse(header: &str) -> Vec<Challenge> {
    let mut challenges = Vec::new();
    let mut scheme: Option<(String, Vec<(String, String)>)> = None;
    let mut rest = header;
    while let Some((token, after)) = take_token(rest) {
        if let Some(after) = after.strip_prefix('=') {
            let Some((value, after)) = take_value(after) else {
                break;
            };
            if let Some((_, parameters)) = &mut scheme {
                parameters.push((token.to_ascii_lowercase(), value));
            }
            rest = after;
        } else {
            challenges.extend(scheme.take().and_then(finish));
            scheme = Some((token.to_ascii_lowercase(), Vec::new()));
            rest = after;
        }
    }
    challenges.extend(scheme.and_then(finish));
    challenges
}

fn finish((scheme, parameters): (String, Vec<(String, String)>)) -> Option<Challenge> {
    let find = |name: &str| {
        let (_, value) = parameters.iter().find(|(key, _)| key == name)?;
        Some(value.clone())
    };
    match scheme.as_str() {
        "bearer" => Some(Challenge::Bearer {
            realm: find("realm")?,
            service: find("service"),
            scope: find("scope"),
        }),
        "basic" => Some(Challenge::Basic),
        _ => None,
    }
}

fn take_token(text: &str) -> Option<(&str, &str)> {
    let text = text.trim_start_matches([' ', '\t', ',']);
    let end = text
        .find(|c: char| !(c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)))
        .unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

fn take_value(text: &str) -> Option<(String, &str)> {
    let Some(mut text) = text.strip_prefix('"') else {
        let (token, rest) = take_token(text)?;
        return Some((token.to_owned(), rest));
    };
    let mut value = String::new();
    loop {
        let mut chars = text.chars();
        match chars.next()? {
            '"' => return Some((value, chars.as_str())),
            '\\' => value.push(chars.next()?),
            c => value.push(c),
        }
        text = chars.as_str();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_token_service_is_read_with_its_scope() {
        let header = r#"Bearer realm="https://auth.example/token",service="r.example",scope="repository:a/b:pull,push""#;
        assert_eq!(
            parse(header),
            [Challenge::Bearer {
                realm: "https://auth.example/token".to_owned(),
                service: Some("r.example".to_owned()),
                scope: Some("repository:a/b:pull,push".to_owned()),
            }]
        );
    }

    #[test]
    fn several_challenges_in_one_header_are_told_apart() {
        let header = r#"Negotiate, bearer Realm="https://a/\"b", Basic realm="x, y""#;
        assert_eq!(
            parse(header),
            [
                Challenge::Bearer {
                    realm: "https://a/\"b".to_owned(),
                    service: None,
                    scope: None
                },
                Challenge::Basic
            ]
        );
    }

    #[test]
    fn a_bearer_challenge_without_realm_is_none() {
        assert_eq!(parse("Bearer service=x"), []);
        assert_eq!(parse(r#"Bearer realm="unfinished"#), []);
    }

    proptest! {
        #[test]
        fn any_header_is_parsed_without_panic(header in "\\PC*") {
            drop(parse(&header));
        }

        #[test]
        fn headers_of_the_right_letters_are_parsed_without_panic(header in "[a-zB=\", \\\\]{0,40}") {
            drop(parse(&header));
        }
    }
}
