//! Files from a web server that is no registry.

use super::SourceOptions;
use super::error::Fault;
use super::http::{Http, Response};
use super::retry::Patience;
use super::trust::Trust;
use super::url::{Scheme, Url};

/// Why such a file did not come.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct FileError(String);

/// The file at `url`, of at most `limit` bytes; None where there is none. Nobody
/// is told who asks: no credentials are sent.
pub(crate) fn file(
    url: &str,
    options: &SourceOptions,
    limit: u64,
) -> Result<Option<Vec<u8>>, FileError> {
    let failed = |error: &dyn std::fmt::Display| FileError(error.to_string());
    let url = Url::parse(url).map_err(|error| failed(&error))?;
    let agents = options.agents(url.authority()).map_err(|e| failed(&e))?;
    // Whoever writes http:// into a configuration of signatures trusts their keys alone.
    let trust = match url.scheme() {
        Scheme::Https => Trust::Verified,
        Scheme::Http => Trust::Unverified,
    };
    let http = Http::new(agents, options.timeouts);
    let mut patience = Patience::new(options.retry);
    loop {
        let answer = http
            .get(&url, trust, "*/*", None)
            .and_then(|response| take(response, limit));
        match answer {
            Err(fault) if patience.wait(&fault) => {}
            answer => return answer.map_err(|fault| failed(&fault)),
        }
    }
}

fn take(response: Response, limit: u64) -> Result<Option<Vec<u8>>, Fault> {
    match response.status {
        200 => response.read_body(limit).map(Some),
        404 => Ok(None),
        status => Err(Fault::Status {
            host: response.url.authority().to_owned(),
            status,
            retry_after: response.retry_after(),
            message: response.into_message(),
        }),
    }
}
