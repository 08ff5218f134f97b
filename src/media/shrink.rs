//! Making an image smaller: what comes out for a size that is asked for. Takes time and memory; no async.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#thumbnails>

use std::{
    fs::File,
    io::{self, BufReader, Cursor},
    path::Path,
};

use image::{
    AnimationDecoder, DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits,
    codecs::{gif::GifDecoder, jpeg::JpegEncoder, png::PngDecoder, webp::WebPDecoder},
    metadata::Orientation,
};

/// Of 100: little enough to be seen, and a third of the size.
const JPEG_QUALITY: u8 = 82;

/// The size that is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// At least so wide.
    pub width: u32,
    /// At least so high.
    pub height: u32,
    /// Exactly of this size; otherwise in the proportions of the image.
    pub is_cropped: bool,
}

/// What to do for a size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    /// The image is no larger than wanted: it is its own thumbnail, and this is what it is.
    Original(&'static str),
    /// It has to be made, for this size.
    Make(Target),
}

/// A smaller image.
#[derive(Debug)]
pub struct Smaller {
    /// The file.
    pub bytes: Vec<u8>,
    /// What it is.
    pub content_type: &'static str,
}

/// Why there is no thumbnail.
#[derive(Debug, thiserror::Error)]
pub enum ShrinkError {
    /// The file is no image, or of no format that is known here, or broken.
    #[error("it is no image that can be read")]
    NotAnImage,
    /// It would take too much memory.
    #[error("the image has too many pixels")]
    TooLarge,
    /// The file cannot be read.
    #[error("the image cannot be read from the disk")]
    Io(#[from] io::Error),
}

impl From<ImageError> for ShrinkError {
    fn from(error: ImageError) -> Self {
        match error {
            ImageError::Limits(_) => Self::TooLarge,
            ImageError::IoError(error) if error.kind() != io::ErrorKind::UnexpectedEof => Self::Io(error),
            _ => Self::NotAnImage,
        }
    }
}

/// What to do for the first of these sizes that is smaller than the image. Where none is, only who likes that gets an
/// original that moves.
pub fn plan(path: &Path, targets: [Target; 2], may_move: bool, max_pixels: u64) -> Result<Plan, ShrinkError> {
    let reader = open(path)?;
    let format = format_of(&reader)?;
    let mut decoder = reader.into_decoder()?;
    let size = turned(decoder.dimensions(), decoder.orientation()?);
    let smaller = targets.into_iter().find(|target| dimensions(size, *target) != size);
    if let Some(target) = smaller {
        return Ok(Plan::Make(target));
    }
    let must_stand = !may_move && moves(path, format, max_pixels)?;
    let [_, wanted] = targets;
    Ok(if must_stand { Plan::Make(wanted) } else { Plan::Original(format.to_mime_type()) })
}

/// The image in this size, or in its own where it is smaller. Always still.
pub fn make(path: &Path, target: Target, max_pixels: u64) -> Result<Smaller, ShrinkError> {
    let mut reader = open(path)?;
    format_of(&reader)?;
    reader.limits(limits(max_pixels));
    let mut decoder = reader.into_decoder()?;
    require_bounded(&decoder, max_pixels)?;
    let orientation = decoder.orientation()?;
    // First smaller, then turned: that is cheaper.
    let target = if swaps(orientation) {
        Target { width: target.height, height: target.width, ..target }
    } else {
        target
    };
    let mut smaller = shrink(&DynamicImage::from_decoder(decoder)?, target);
    smaller.apply_orientation(orientation);
    encode(&smaller)
}

fn open(path: &Path) -> Result<ImageReader<BufReader<File>>, ShrinkError> {
    Ok(ImageReader::new(BufReader::new(File::open(path)?)).with_guessed_format()?)
}

fn format_of<R: io::BufRead + io::Seek>(reader: &ImageReader<R>) -> Result<ImageFormat, ShrinkError> {
    let is_known = |format: &ImageFormat| {
        matches!(format, ImageFormat::Gif | ImageFormat::Jpeg | ImageFormat::Png | ImageFormat::WebP)
    };
    reader.format().filter(is_known).ok_or(ShrinkError::NotAnImage)
}

fn require_bounded(decoder: &impl ImageDecoder, max_pixels: u64) -> Result<(), ShrinkError> {
    let (width, height) = decoder.dimensions();
    let is_bounded = u64::from(width) * u64::from(height) <= max_pixels
        && decoder.total_bytes() <= max_pixels.saturating_mul(4);
    if is_bounded { Ok(()) } else { Err(ShrinkError::TooLarge) }
}

fn limits(max_pixels: u64) -> Limits {
    let mut limits = Limits::default();
    // Decoders need some more than the image itself.
    limits.max_alloc = Some(max_pixels.saturating_mul(8));
    limits
}

/// Whether the file has more than one picture.
fn moves(path: &Path, format: ImageFormat, max_pixels: u64) -> Result<bool, ShrinkError> {
    let file = BufReader::new(File::open(path)?);
    Ok(match format {
        ImageFormat::Gif => {
            let mut decoder = GifDecoder::new(file)?;
            require_bounded(&decoder, max_pixels)?;
            decoder.set_limits(limits(max_pixels))?;
            decoder.into_frames().take(2).count() > 1
        }
        ImageFormat::Png => PngDecoder::new(file)?.is_apng()?,
        ImageFormat::WebP => WebPDecoder::new(file)?.has_animation(),
        _ => false,
    })
}

fn swaps(orientation: Orientation) -> bool {
    matches!(
        orientation,
        Orientation::Rotate90
            | Orientation::Rotate270
            | Orientation::Rotate90FlipH
            | Orientation::Rotate270FlipH
    )
}

/// How large the image is when it is held as its photographer meant it.
fn turned((width, height): (u32, u32), orientation: Orientation) -> (u32, u32) {
    if swaps(orientation) { (height, width) } else { (width, height) }
}

/// How large an image of this size becomes: never larger than it is, and else never smaller than the target.
fn dimensions((width, height): (u32, u32), target: Target) -> (u32, u32) {
    if width < target.width || height < target.height {
        return (width, height);
    }
    if target.is_cropped {
        return (target.width, target.height);
    }
    let (w, h) = (u64::from(width), u64::from(height));
    let (tw, th) = (u64::from(target.width), u64::from(target.height));
    let short = |length: u64| u32::try_from(length).unwrap_or(u32::MAX);
    if tw * h >= th * w {
        (target.width, short((h * tw).div_ceil(w)))
    } else {
        (short((w * th).div_ceil(h)), target.height)
    }
}

fn shrink(image: &DynamicImage, target: Target) -> DynamicImage {
    let size = (image.width(), image.height());
    let (width, height) = dimensions(size, target);
    if (width, height) == size {
        return image.clone();
    }
    if !target.is_cropped {
        return image.thumbnail_exact(width, height);
    }
    let (x, y, w, h) = middle(size, target);
    image.crop_imm(x, y, w, h).thumbnail_exact(width, height)
}

/// The middle of an image, in the proportions of the target: where it begins, and its size.
fn middle((width, height): (u32, u32), target: Target) -> (u32, u32, u32, u32) {
    let (w, h) = (u64::from(width), u64::from(height));
    let (tw, th) = (u64::from(target.width), u64::from(target.height));
    let short = |length: u64| u32::try_from(length).unwrap_or(u32::MAX);
    let (w, h) = if w * th > h * tw {
        (short(h * tw / th).max(target.width), height)
    } else {
        (width, short(w * th / tw).max(target.height))
    };
    ((width - w) / 2, (height - h) / 2, w, h)
}

/// As JPEG, or as PNG where something shines through.
fn encode(image: &DynamicImage) -> Result<Smaller, ShrinkError> {
    let mut bytes = Vec::new();
    if image.color().has_alpha() {
        DynamicImage::from(image.to_rgba8()).write_to(&mut Cursor::new(&mut bytes), ImageFormat::Png)?;
        return Ok(Smaller { bytes, content_type: ImageFormat::Png.to_mime_type() });
    }
    image.to_rgb8().write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, JPEG_QUALITY))?;
    Ok(Smaller { bytes, content_type: ImageFormat::Jpeg.to_mime_type() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scale(width: u32, height: u32) -> Target {
        Target { width, height, is_cropped: false }
    }

    fn crop(width: u32, height: u32) -> Target {
        Target { width, height, is_cropped: true }
    }

    #[test]
    fn nothing_becomes_larger_than_it_was_or_smaller_than_wanted() {
        assert_eq!(dimensions((1000, 500), scale(320, 240)), (480, 240));
        assert_eq!(dimensions((500, 1000), scale(320, 240)), (320, 640));
        assert_eq!(dimensions((640, 480), scale(320, 240)), (320, 240));
        assert_eq!(dimensions((1000, 333), scale(100, 100)), (301, 100));
        assert_eq!(dimensions((1000, 500), crop(96, 96)), (96, 96));
        assert_eq!(dimensions((300, 1000), scale(320, 240)), (300, 1000));
        assert_eq!(dimensions((50, 50), crop(96, 96)), (50, 50));
    }

    #[test]
    fn middle_has_the_proportions_that_are_wanted() {
        assert_eq!(middle((1000, 500), crop(96, 96)), (250, 0, 500, 500));
        assert_eq!(middle((500, 1000), crop(96, 96)), (0, 250, 500, 500));
        assert_eq!(middle((100, 100), crop(100, 50)), (0, 25, 100, 50));
        assert_eq!(middle((640, 480), crop(320, 240)), (0, 0, 640, 480));
    }

    #[test]
    fn photograph_is_turned_as_it_was_meant() {
        assert_eq!(turned((4, 3), Orientation::Rotate90), (3, 4));
        assert_eq!(turned((4, 3), Orientation::Rotate180), (4, 3));
    }
}
