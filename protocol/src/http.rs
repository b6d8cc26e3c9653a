//! One question over plain HTTP/1.1 (feature `http`): what both roles need to speak with witnesses and mirrors nobody here wrote.
//!
//! No TLS, on purpose: what is asked for this way is signed, and what is not signed is not believed. One request a connection, no
//! redirects, and a bound on everything that an answer may cost: time, bytes, headers (hyper's own limits).

use std::fmt;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST, USER_AGENT};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// How long one question may take, from the look-up of the name to the last byte of the answer.
pub const TIMEOUT: Duration = Duration::from_secs(10);

/// Where something is asked for: `http://host[:port][/path]`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Url {
    /// `host` or `host:port`, as it stands in the URL.
    authority: String,
    /// Starts with a slash; `/` if the URL had none.
    path: String,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The address has another form.
    #[error("'{url}' is not an address such as http://host:port/path: {why}")]
    Url {
        /// What was written.
        url: String,
        /// What is wrong.
        why: &'static str,
    },
    /// No connection, or none that speaks HTTP.
    #[error("{url} does not answer: {why}")]
    Failed {
        /// Who was asked.
        url: String,
        /// What the system, or the other side, said.
        why: String,
    },
    /// It took too long.
    #[error("{url} has not answered within {} s", TIMEOUT.as_secs())]
    Timeout {
        /// Who was asked.
        url: String,
    },
}

impl Url {
    /// Reads a URL.
    ///
    /// # Errors
    /// [`HttpError::Url`].
    pub fn parse(url: &str) -> Result<Url, HttpError> {
        let wrong = |why| HttpError::Url { url: url.chars().take(200).collect(), why };
        if url.starts_with("https://") {
            return Err(wrong("only http:// is spoken here, because everything asked for this way is signed"));
        }
        let rest = url.strip_prefix("http://").ok_or_else(|| wrong("it does not start with http://"))?;
        if rest.len() > 1024 || rest.bytes().any(|byte| !byte.is_ascii_graphic()) {
            return Err(wrong("it is too long, or holds a blank or other than ASCII"));
        }
        if rest.contains(['?', '#', '@']) {
            return Err(wrong("it holds a query, a fragment or a user"));
        }
        let (authority, path) = match rest.split_once('/') {
            Some((authority, path)) => (authority, format!("/{path}")),
            None => (rest, "/".to_owned()),
        };
        let read = authority.parse::<hyper::http::uri::Authority>().ok();
        if !read.is_some_and(|read| !read.host().is_empty() && (read.port_u16().is_some() || read.host() == authority))
        {
            return Err(wrong("its host and port cannot be read"));
        }
        Ok(Url { authority: authority.to_owned(), path })
    }

    /// Whether the URL named nothing but a host.
    pub fn is_bare(&self) -> bool {
        self.path == "/"
    }

    /// The same place, one step further: `/path` + `/name`.
    #[must_use]
    pub fn join(&self, name: &str) -> Url {
        Url { authority: self.authority.clone(), path: format!("{}/{name}", self.path.trim_end_matches('/')) }
    }

    /// `host:port` to connect to.
    fn address(&self) -> String {
        match self.authority.parse::<hyper::http::uri::Authority>().ok().and_then(|a| a.port_u16()) {
            Some(_) => self.authority.clone(),
            None => format!("{}:80", self.authority),
        }
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.authority, self.path)
    }
}

/// An answer, whatever its status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// HTTP status.
    pub status: u16,
    /// The media type, without parameters, in lower case; empty if there was none.
    pub content_type: String,
    /// The body.
    pub body: Vec<u8>,
}

/// Asks for what lies at `url`; an answer of more than `bytes_max` bytes is an error.
///
/// # Errors
/// [`HttpError`].
pub async fn get(url: &Url, bytes_max: usize) -> Result<Response, HttpError> {
    ask(url, Method::GET, Vec::new(), bytes_max).await
}

/// Posts `body` to `url`; an answer of more than `bytes_max` bytes is an error.
///
/// # Errors
/// [`HttpError`].
pub async fn post(url: &Url, body: Vec<u8>, bytes_max: usize) -> Result<Response, HttpError> {
    ask(url, Method::POST, body, bytes_max).await
}

async fn ask(url: &Url, method: Method, body: Vec<u8>, bytes_max: usize) -> Result<Response, HttpError> {
    match tokio::time::timeout(TIMEOUT, exchange(url, method, body, bytes_max)).await {
        Ok(answer) => answer.map_err(|why| HttpError::Failed { url: url.to_string(), why: why.to_string() }),
        Err(_) => Err(HttpError::Timeout { url: url.to_string() }),
    }
}

type Failed = Box<dyn std::error::Error + Send + Sync>;

async fn exchange(url: &Url, method: Method, body: Vec<u8>, bytes_max: usize) -> Result<Response, Failed> {
    let stream = TcpStream::connect(url.address()).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::builder()
        .method(method)
        .uri(url.path.as_str())
        .header(HOST, url.authority.as_str())
        .header(USER_AGENT, concat!("leben/", env!("CARGO_PKG_VERSION")))
        .header(CONNECTION, "close")
        .body(Full::new(Bytes::from(body)))?;
    let answer = async {
        let response = sender.send_request(request).await?;
        let status = response.status().as_u16();
        let media = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let content_type = media.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let body = Limited::new(response.into_body(), bytes_max).collect().await?.to_bytes().to_vec();
        Ok(Response { status, content_type, body })
    };
    tokio::pin!(answer);
    // The connection has to be driven while the answer is awaited; when it ends first, the answer says how.
    tokio::select! {
        answered = &mut answer => answered,
        _ = connection => answer.await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    /// Serves one connection these bytes; what it was asked.
    async fn serve(answer: &'static [u8]) -> (Url, tokio::task::JoinHandle<Vec<u8>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = Url::parse(&format!("http://{}/log", listener.local_addr().unwrap())).unwrap();
        let served = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = vec![0; 4096];
            let got = stream.read(&mut asked).await.unwrap();
            asked.truncate(got);
            stream.write_all(answer).await.unwrap();
            asked
        });
        (url, served)
    }

    #[test]
    fn addresses() {
        let url = Url::parse("http://a.example:8080/log/1").unwrap();
        assert_eq!(url.join("add-checkpoint").to_string(), "http://a.example:8080/log/1/add-checkpoint");
        assert_eq!(Url::parse("http://a.example").unwrap().address(), "a.example:80");
        assert!(Url::parse("http://[::1]:80").unwrap().is_bare());
        for bad in [
            "a.example",
            "https://a.example",
            "http://",
            "http://:80",
            "http://a b",
            "http://a/?x",
            "http://u@a",
            "http://a:b",
        ] {
            assert!(Url::parse(bad).is_err(), "{bad}");
        }
    }

    #[tokio::test]
    async fn a_question_and_its_answer() {
        let answer = b"HTTP/1.1 409 Conflict\r\nContent-Type: Text/X.Tlog.Size; q=1\r\nContent-Length: 3\r\n\r\n42\n";
        let (url, served) = serve(answer).await;
        let response = post(&url.join("add-checkpoint"), b"old 0\n".to_vec(), 100).await.unwrap();
        assert_eq!((response.status, response.content_type.as_str()), (409, "text/x.tlog.size"));
        assert_eq!(response.body, b"42\n");
        let asked = String::from_utf8(served.await.unwrap()).unwrap();
        assert!(
            asked.starts_with("POST /log/add-checkpoint HTTP/1.1\r\n") && asked.ends_with("\r\n\r\nold 0\n"),
            "{asked}"
        );
    }

    #[tokio::test]
    async fn an_answer_that_is_too_long_cut_off_or_no_http_is_an_error() {
        for answer in [
            &b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n12345678901"[..],
            b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n123",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nb\r\n12345678901\r\n0\r\n\r\n",
            b"SSH-2.0-x\r\n",
            b"",
        ] {
            let (url, served) = serve(answer).await;
            assert!(get(&url, 10).await.is_err(), "{answer:?}");
            served.await.unwrap();
        }
        let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        assert!(get(&Url::parse(&format!("http://{nobody}")).unwrap(), 10).await.is_err());
    }
}
