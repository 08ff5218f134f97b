//! Files as users upload and download them.

use std::io::Cursor;

use image::{DynamicImage, ImageFormat, Rgba, RgbaImage};
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

    /// Width and height of the image that it is.
    #[track_caller]
    pub fn size(&self) -> (u32, u32) {
        let reader = image::ImageReader::new(Cursor::new(&self.body)).with_guessed_format();
        reader.expect("it is in memory").into_dimensions().expect("it is an image")
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

    /// A thumbnail, as those get it who are logged in.
    pub async fn thumbnail(&self, media: &str, query: &str) -> Download {
        self.download(&format!("/_matrix/client/v1/media/thumbnail/{media}?{query}")).await
    }

    /// Downloads media as those do who are not.
    pub async fn media_of_old(&self, media: &str) -> Download {
        self.download(&format!("/_matrix/media/v3/download/{media}")).await
    }
}

/// An image of this size, in this format, in two colours; some of it shines through where that is possible.
pub fn picture(width: u32, height: u32, format: ImageFormat) -> Vec<u8> {
    let image = RgbaImage::from_fn(width, height, |x, _| {
        if x < width / 2 { Rgba([200, 0, 0, 255]) } else { Rgba([0, 0, 200, 100]) }
    });
    let image = DynamicImage::from(image);
    let image = if format == ImageFormat::Jpeg { DynamicImage::from(image.to_rgb8()) } else { image };
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).expect("memory can be written");
    bytes.into_inner()
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
