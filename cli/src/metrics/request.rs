//! What a scraper asks for: the head of a request of HTTP/1, RFC 9112. A body is not read.

use super::exposition::{Format, Metric};

/// The answer to the head of a request; `None` while it has not ended.
pub fn answer(head: &[u8], metrics: impl FnOnce() -> Vec<Metric>) -> Option<Vec<u8>> {
    let end = head.windows(2).position(|it| it == b"\n\n");
    let end = end.or_else(|| head.windows(4).position(|it| it == b"\r\n\r\n"))?;
    let Ok(head) = std::str::from_utf8(&head[..end]) else { return Some(refusal(BAD, "")) };
    let mut lines = head.lines();
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Some(refusal(BAD, ""));
    };
    if !version.starts_with("HTTP/1.") {
        return Some(refusal("505 HTTP Version Not Supported", ""));
    }
    if path(target) != PATH {
        return Some(refusal("404 Not Found", ""));
    }
    if !["GET", "HEAD"].contains(&method) {
        return Some(refusal("405 Method Not Allowed", "Allow: GET, HEAD\r\n"));
    }
    let accept: Vec<&str> = lines
        .filter_map(|line| line.split_once(':'))
        .filter(|(name, _)| name.eq_ignore_ascii_case("accept"))
        .map(|(_, value)| value.trim())
        .collect();
    let format = Format::wanted_by(&accept.join(","));
    let body = format.write(&metrics());
    let sent = if method == "HEAD" { "" } else { &body };
    Some(response("200 OK", format.content_type(), body.len(), "Vary: Accept\r\n", sent))
}

/// What is answered to a head that is too long.
pub fn too_long() -> Vec<u8> {
    refusal("431 Request Header Fields Too Large", "")
}

/// The path of a target, which may be a whole URL and have a query: RFC 9112, 3.2.
fn path(target: &str) -> &str {
    let scheme = target.get(..7).filter(|it| it.eq_ignore_ascii_case("http://"));
    let target = match scheme {
        Some(_) => target[7..].find('/').map_or("/", |at| &target[7 + at..]),
        None => target,
    };
    target.split('?').next().unwrap_or_default()
}

fn refusal(status: &str, fields: &str) -> Vec<u8> {
    let text = format!("{status}: figures are at {PATH}, for GET\n");
    response(status, "text/plain; charset=utf-8", text.len(), fields, &text)
}

fn response(status: &str, kind: &str, len: usize, fields: &str, body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len}\r\n{fields}Connection: close\r\n\r\n\
         {body}"
    )
    .into_bytes()
}

const PATH: &str = "/metrics";
const BAD: &str = "400 Bad Request";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::exposition::Kind;
    use super::*;

    fn heaps() -> Vec<Metric> {
        vec![Metric { name: "heaps", help: "Heaps", kind: Kind::Counter, value: 7 }]
    }

    fn answered(head: &str) -> String {
        String::from_utf8(answer(head.as_bytes(), heaps).expect("an end of the head")).unwrap()
    }

    #[test]
    fn requests_are_answered_by_their_first_line_and_accept() {
        for (head, status) in [
            ("GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n", "200 OK"),
            ("GET /metrics HTTP/1.0\n\n", "200 OK"),
            ("GET /metrics?debug=1 HTTP/1.1\r\n\r\n", "200 OK"),
            ("GET http://host:9912/metrics HTTP/1.1\r\n\r\n", "200 OK"),
            ("HEAD /metrics HTTP/1.1\r\n\r\n", "200 OK"),
            ("GET /metrics HTTP/1.1\r\nContent-Length: 100000000000000\r\n\r\n", "200 OK"),
            ("GET / HTTP/1.1\r\n\r\n", "404 Not Found"),
            ("GET http://host HTTP/1.1\r\n\r\n", "404 Not Found"),
            ("POST / HTTP/1.1\r\n\r\n", "404 Not Found"),
            ("POST /metrics HTTP/1.1\r\n\r\n", "405 Method Not Allowed"),
            ("GET /metrics HTTP/2\r\n\r\n", "505 HTTP Version Not Supported"),
            ("GET /metrics HTTP/9.9\r\n\r\n", "505 HTTP Version Not Supported"),
            ("GET\r\n\r\n", "400 Bad Request"),
            ("\r\n\r\n", "400 Bad Request"),
            ("GET  /metrics HTTP/1.1\r\n\r\n", "400 Bad Request"),
        ] {
            assert!(answered(head).starts_with(&format!("HTTP/1.1 {status}\r\n")), "{head}");
        }
        let answers = [
            answered("GET /metrics HTTP/1.1\r\naccept: application/openmetrics-text\r\n\r\n"),
            answered("GET /metrics HTTP/1.1\r\nAccept: text/plain\r\n\r\n"),
        ];
        assert!(
            answers[0].contains("openmetrics-text; version=1.0.0")
                && answers[0].ends_with("# EOF\n")
        );
        assert!(
            answers[1].contains("version=0.0.4")
                && answers[1].ends_with("doorbell_heaps_total 7\n")
        );
        let head = answered("HEAD /metrics HTTP/1.1\r\n\r\n");
        assert!(head.contains("Content-Length: 9") && head.ends_with("\r\n\r\n"), "{head}");
        assert!(answered("PUT /metrics HTTP/1.1\r\n\r\n").contains("\r\nAllow: GET, HEAD\r\n"));
    }

    #[test]
    fn a_head_that_has_not_ended_is_waited_for() {
        for head in ["", "GET /metrics HTTP/1.1\r\n", "GET /metrics HTTP/1.1\r\nX: \r\n\r"] {
            assert_eq!(answer(head.as_bytes(), heaps), None);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>, text in "[ -~]{0,40} [ -~\u{e9}\u{1f980}]{0,20} HTTP/1.1\r\n\r\n") {
            answer(&bytes, heaps);
            prop_assert!(answer(text.as_bytes(), heaps).is_some());
        }
    }
}
