// Pictures, made as small as the model sees them anyway.

const MOST_PIXELS = 1_000_000;

/** A file as {url: a data URL of a JPEG, canvas}. @throws what the browser throws of a file that is no picture */
export async function readPicture(file) {
  const picture = await createImageBitmap(file);
  const small = shrunk(picture, picture.width, picture.height);
  picture.close();
  return small;
}

/** What a canvas can draw, likewise. */
export function shrunk(picture, width, height) {
  const shrink = Math.min(1, Math.sqrt(MOST_PIXELS / (width * height)));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(width * shrink));
  canvas.height = Math.max(1, Math.round(height * shrink));
  const drawing = canvas.getContext("2d");
  drawing.fillStyle = "white"; // behind what is transparent
  drawing.fillRect(0, 0, canvas.width, canvas.height);
  drawing.drawImage(picture, 0, 0, canvas.width, canvas.height);
  return { url: canvas.toDataURL("image/jpeg", 0.85), canvas };
}
