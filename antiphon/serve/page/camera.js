// Shows the model what the camera sees.

import { shrunk } from "./picture.js";

export class Camera {
  /**
   * @param dialog, video, button: where it is looked through, and taken.
   * @param took a function of what was taken: {url, canvas}, see picture.js.
   */
  constructor({ dialog, video, button }, took) {
    this.dialog = dialog;
    this.video = video;
    dialog.addEventListener("close", () => this.#close());
    button.addEventListener("click", () => {
      if (!video.videoWidth) return; // it isn't there yet
      took(shrunk(video, video.videoWidth, video.videoHeight));
      dialog.close();
    });
  }

  /** Opens it. @throws DOMException of getUserMedia, or an Error named "InsecureError" where there is none */
  async open() {
    if (!navigator.mediaDevices?.getUserMedia) throw Object.assign(new Error("no media devices"), { name: "InsecureError" });
    const video = { facingMode: "environment", width: { ideal: 1280 } };
    const stream = await navigator.mediaDevices.getUserMedia({ video });
    this.dialog.showModal();
    this.video.srcObject = stream;
    await this.video.play();
  }

  #close() {
    this.video.srcObject?.getTracks().forEach((track) => track.stop());
    this.video.srcObject = null;
  }
}
