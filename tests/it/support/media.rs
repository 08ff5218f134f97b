//! Files as users upload and download them.

use reqwest::{Method, header::HeaderMap};

use super::{Answer, User, encode, user::Caller};

/// What a download answered.
#[derive(Debug)]
pub struct Download {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Download {
    /// The text of a header; empty without it.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("headers are ASCII"))
    }

    /// That it succeeded.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.status, 200, "{}", String::from_utf8_lossy(&self.body));
        self
    }

    /// That it was refused like this.
    #[track_caller]
    pub fn refused(self, status: u16, errcode: &str) {
        let body: serde_json::Value = serde_json::from_slice(&self.body).unwrap_or_default();
        let answered = (self.status, body["errcode"].as_str().unwrap_or("no errcode"));
        assert_eq!(answered, (status, errcode), "{body}");
    }
}

impl Caller {
    /// Downloads from this path.
    pub async fn download(&self, path: &str) -> Download {
        self.download_part(path, None).await
    }

    /// Downloads from this path, with this `Range`.
    pub async fn download_part(&self, path: &str, range: Option<&str>) -> Download {
        let mut request = self.request(Method::GET, path);
        if let Some(range) = range {
            request = request.header("range", range);
        }
        let answer = request.send().await.expect("the server answers");
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let body = answer.bytes().await.expect("the answer is whole").to_vec();
        Download { status, headers, body }
    }

    /// Downloads media (`server/id`) as those do who are logged in.
    pub async fn media(&self, media: &str) -> Download {
        self.download(&format!("/_matrix/client/v1/media/download/{media}")).await
    }

    /// Downloads media as those do who are not.
    pub async fn media_of_old(&self, media: &str) -> Download {
        self.download(&format!("/_matrix/media/v3/download/{media}")).await
    }
}

impl User {
    /// Uploads: the media, as `server/id`.
    pub async fn upload(&self, body: &[u8], content_type: &str, file_name: &str) -> String {
        media_of(&self.try_upload(body, content_type, file_name).await.ok())
    }

    pub async fn try_upload(&self, body: &[u8], content_type: &str, file_name: &str) -> Answer {
        let path = format!("/_matrix/media/v3/upload?filename={}", encode(file_name));
        let request = self.request(Method::POST, &path);
        Answer::to(request.header("content-type", content_type).body(body.to_vec())).await
    }

    /// Asks for an address to upload to later.
    pub async fn announce_media(&self) -> String {
        media_of(&self.post("/_matrix/media/v1/create", serde_json::json!({})).await.ok())
    }

    /// Uploads to such an address.
    pub async fn upload_to(&self, media: &str, body: &[u8]) -> Answer {
        let request = self.request(Method::PUT, &format!("/_matrix/media/v3/upload/{media}"));
        Answer::to(request.header("content-type", "text/plain").body(body.to_vec())).await
    }
}

fn media_of(answer: &serde_json::Value) -> String {
    let address = answer["content_uri"].as_str().unwrap_or_else(|| panic!("no address in {answer}"));
    address.strip_prefix("mxc://").expect("it is an mxc address").to_owned()
}
