// Pictures, made as small as the model sees them anyway.

const MOST_PIXELS = 1_000_000;

/** A file as a data URL of a JPEG. @throws what the browser throws of a file that is no picture */
export async function readPicture(file) {
  const picture = await createImageBitmap(file);
  const shrink = Math.min(1, Math.sqrt(MOST_PIXELS / (picture.width * picture.height)));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(picture.width * shrink));
  canvas.height = Math.max(1, Math.round(picture.height * shrink));
  const drawing = canvas.getContext("2d");
  drawing.fillStyle = "white"; // behind what is transparent
  drawing.fillRect(0, 0, canvas.width, canvas.height);
  drawing.drawImage(picture, 0, 0, canvas.width, canvas.height);
  picture.close();
  return canvas.toDataURL("image/jpeg", 0.85);
}
