/* The search reads its index in a Worker, which browsers refuse to pages opened from a disk. There a hidden frame does the same work. */
if (location.protocol === "file:") {
  window.IFrameWorker = window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      document.body.append(frame);
      const inside = frame.contentWindow;
      inside.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
      const script = inside.document.createElement("script");
      script.src = new URL(url, location.href);
      this.ready = new Promise((done) => script.addEventListener("load", done));
      this.postMessage = (data) => this.ready.then(() => inside.dispatchEvent(new inside.MessageEvent("message", { data })));
      inside.document.body.append(script);
    }
  };
}
