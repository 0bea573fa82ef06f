// A small viewer for Gaussian splats: WebGL2, no dependencies, no network.
//
// Each splat is one instanced quad around its projected Gaussian (EWA: Σ' = J W Σ Wᵀ Jᵀ + 0.3 I in pixels, as in the 3DGS rasterizers),
// blended back to front with premultiplied alpha. The order comes from a 16-bit counting sort along the viewing direction, redone
// whenever the camera has moved. World: z up, azimuth 0 looks at the front from +x. Nothing is drawn while nothing changes.
"use strict";

const SplatViewer = (() => {
  const FOV_Y = (49.1 * Math.PI) / 180;
  const HOME = { azimuth: 0.6, elevation: 0.26, distance: 2.6 };
  const BACKGROUNDS = [[1, 1, 1], [0.5, 0.5, 0.5], [0.07, 0.08, 0.1]];
  const ROW_BYTES = 32; // .splat: position 3×f32, scale 3×f32, RGBA 4×u8, quaternion wxyz 4×u8
  const TEXELS = 3; // texels of four 32-bit words a splat
  const TEXTURE_WIDTH = 1023; // a multiple of TEXELS: a splat never breaks over two rows

  const VERTEX = `#version 300 es
    precision highp float;
    precision highp usampler2D;
    uniform usampler2D splats;
    uniform mat4 cameraFromWorld;
    uniform vec2 viewport;
    uniform float focal;
    in vec2 corner;
    in uint index;
    out vec2 offset;
    out vec4 colour;
    uvec4 word(int texel) {
      int at = int(index) * ${TEXELS} + texel;
      return texelFetch(splats, ivec2(at % ${TEXTURE_WIDTH}, at / ${TEXTURE_WIDTH}), 0);
    }
    void main() {
      gl_Position = vec4(0.0, 0.0, 2.0, 1.0); // clipped unless the splat turns out to be visible
      uvec4 first = word(0);
      vec3 centre = (cameraFromWorld * vec4(uintBitsToFloat(first.xyz), 1.0)).xyz; // OpenCV: x right, y down, z forward
      if (centre.z < 0.05) return;
      colour = vec4(first.w & 255u, (first.w >> 8) & 255u, (first.w >> 16) & 255u, first.w >> 24) / 255.0;
      if (colour.a < 1.0 / 255.0) return;
      vec3 a = uintBitsToFloat(word(1).xyz), b = uintBitsToFloat(word(2).xyz); // xx xy xz, yy yz zz
      mat3 covariance = mat3(a.x, a.y, a.z, a.y, b.x, b.y, a.z, b.y, b.z);
      vec2 limit = 1.3 * 0.5 * viewport / focal; // the linearisation is only good near the image
      vec2 t = clamp(centre.xy / centre.z, -limit, limit) * centre.z;
      float f = focal / centre.z;
      mat3 J = mat3(f, 0.0, 0.0, 0.0, f, 0.0, -f * t.x / centre.z, -f * t.y / centre.z, 0.0);
      mat3 T = J * mat3(cameraFromWorld);
      mat3 projected = T * covariance * transpose(T);
      float xx = projected[0][0] + 0.3, xy = projected[0][1], yy = projected[1][1] + 0.3;
      float middle = 0.5 * (xx + yy), spread = length(vec2(0.5 * (xx - yy), xy));
      float large = middle + spread, small = max(middle - spread, 0.1);
      vec2 axis = abs(xy) < 1e-6 ? (xx >= yy ? vec2(1.0, 0.0) : vec2(0.0, 1.0)) : normalize(vec2(xy, large - xx));
      // Beyond this many standard deviations alpha is below 1/255.
      float reach = sqrt(2.0 * log(255.0 * colour.a));
      offset = corner * reach;
      vec2 pixel = offset.x * sqrt(large) * axis + offset.y * sqrt(small) * vec2(-axis.y, axis.x);
      vec2 ndc = (centre.xy * f + pixel) / (0.5 * viewport);
      gl_Position = vec4(ndc.x, -ndc.y, 0.0, 1.0);
    }`;

  const FRAGMENT = `#version 300 es
    precision highp float;
    in vec2 offset;
    in vec4 colour;
    out vec4 result;
    void main() {
      float alpha = min(0.999, colour.a * exp(-0.5 * dot(offset, offset)));
      if (alpha < 1.0 / 255.0) discard;
      result = vec4(colour.rgb * alpha, alpha);
    }`;

  function decode(base64) {
    const text = atob(base64.trim());
    const bytes = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
    return bytes;
  }

  // Rows of 32 bytes → centres for sorting, and texels (centre, colour | covariance) for the shader.
  function unpack(bytes) {
    const count = Math.floor(bytes.length / ROW_BYTES);
    const floats = new Float32Array(bytes.buffer, 0, count * 8);
    const height = Math.max(1, Math.ceil((count * TEXELS) / TEXTURE_WIDTH));
    const words = new Uint32Array(TEXTURE_WIDTH * height * 4);
    const asFloat = new Float32Array(words.buffer);
    const centres = new Float32Array(count * 3);
    for (let i = 0; i < count; i++) {
      const at = i * TEXELS * 4;
      for (let k = 0; k < 3; k++) centres[3 * i + k] = asFloat[at + k] = floats[8 * i + k];
      const byte = ROW_BYTES * i + 24;
      words[at + 3] = (bytes[byte] | (bytes[byte + 1] << 8) | (bytes[byte + 2] << 16) | (bytes[byte + 3] << 24)) >>> 0;
      let [w, x, y, z] = [4, 5, 6, 7].map((k) => (bytes[byte + k] - 128) / 128);
      const norm = Math.hypot(w, x, y, z) || 1;
      w /= norm; x /= norm; y /= norm; z /= norm;
      const [sx, sy, sz] = [floats[8 * i + 3], floats[8 * i + 4], floats[8 * i + 5]];
      const M = [ // rotation times scales, rows
        (1 - 2 * (y * y + z * z)) * sx, 2 * (x * y - w * z) * sy, 2 * (x * z + w * y) * sz,
        2 * (x * y + w * z) * sx, (1 - 2 * (x * x + z * z)) * sy, 2 * (y * z - w * x) * sz,
        2 * (x * z - w * y) * sx, 2 * (y * z + w * x) * sy, (1 - 2 * (x * x + y * y)) * sz,
      ];
      const dot = (r, s) => M[3 * r] * M[3 * s] + M[3 * r + 1] * M[3 * s + 1] + M[3 * r + 2] * M[3 * s + 2];
      asFloat[at + 4] = dot(0, 0); asFloat[at + 5] = dot(0, 1); asFloat[at + 6] = dot(0, 2);
      asFloat[at + 8] = dot(1, 1); asFloat[at + 9] = dot(1, 2); asFloat[at + 10] = dot(2, 2);
    }
    return { count, centres, words, height };
  }

  // Indices from far to near along `forward`: counting sort on 16-bit depths.
  function sortByDepth(centres, count, forward, out) {
    const depths = new Float32Array(count);
    let low = Infinity, high = -Infinity;
    for (let i = 0; i < count; i++) {
      const depth = centres[3 * i] * forward[0] + centres[3 * i + 1] * forward[1] + centres[3 * i + 2] * forward[2];
      depths[i] = depth;
      if (depth < low) low = depth;
      if (depth > high) high = depth;
    }
    const scale = 65535 / Math.max(high - low, 1e-9);
    const keys = new Uint16Array(count);
    const starts = new Uint32Array(65537);
    for (let i = 0; i < count; i++) {
      keys[i] = (high - depths[i]) * scale;
      starts[keys[i] + 1]++;
    }
    for (let k = 0; k < 65536; k++) starts[k + 1] += starts[k];
    for (let i = 0; i < count; i++) out[starts[keys[i]]++] = i;
    return out;
  }

  class Viewer {
    constructor(canvas, base64) {
      this.canvas = canvas;
      this.data = unpack(decode(base64));
      this.order = new Uint32Array(this.data.count);
      this.camera = { ...HOME, target: [0, 0, 0] };
      this.background = 0;
      this.spinning = false;
      this.frames = 0;
      this.pending = false;
      this.linked = [this];
      this.listen();
      new ResizeObserver(() => this.request()).observe(canvas);
      // Browsers allow about 16 WebGL contexts a page: only canvases on screen hold one.
      new IntersectionObserver((entries) => (entries.at(-1).isIntersecting ? this.open() : this.close())).observe(canvas);
    }

    open() {
      if (this.gl) return;
      // A context given up by close() comes back on the same canvas, through restoreContext.
      if (this.lost) { this.lost.restoreContext(); this.lost = null; return; }
      const gl = this.canvas.getContext("webgl2", { antialias: false, alpha: false, preserveDrawingBuffer: true });
      if (!gl) {
        this.canvas.replaceWith(Object.assign(document.createElement("p"), { textContent: "This browser offers no WebGL2; the splats cannot be shown." }));
        return;
      }
      this.setUp(gl);
    }

    close() {
      if (!this.gl) return;
      this.lost = this.gl.getExtension("WEBGL_lose_context");
      this.gl = null;
      if (this.lost) this.lost.loseContext();
    }

    setUp(gl) {
      const program = gl.createProgram();
      for (const [type, source] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
        const shader = gl.createShader(type);
        gl.shaderSource(shader, source);
        gl.compileShader(shader);
        gl.attachShader(program, shader);
      }
      gl.linkProgram(program);
      if (!gl.getProgramParameter(program, gl.LINK_STATUS)) throw new Error("splat shader: " + gl.getProgramInfoLog(program));
      gl.useProgram(program);
      this.uniform = Object.fromEntries(["cameraFromWorld", "viewport", "focal"].map((n) => [n, gl.getUniformLocation(program, n)]));

      gl.bindTexture(gl.TEXTURE_2D, gl.createTexture());
      gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.NEAREST);
      gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MAG_FILTER, gl.NEAREST);
      gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA32UI, TEXTURE_WIDTH, this.data.height, 0, gl.RGBA_INTEGER, gl.UNSIGNED_INT, this.data.words);

      const corner = gl.getAttribLocation(program, "corner");
      gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
      gl.bufferData(gl.ARRAY_BUFFER, new Float32Array([-1, -1, 1, -1, -1, 1, 1, 1]), gl.STATIC_DRAW);
      gl.enableVertexAttribArray(corner);
      gl.vertexAttribPointer(corner, 2, gl.FLOAT, false, 0, 0);
      const index = gl.getAttribLocation(program, "index");
      gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer()); // stays bound: draw() refills it
      gl.enableVertexAttribArray(index);
      gl.vertexAttribIPointer(index, 1, gl.UNSIGNED_INT, 0, 0);
      gl.vertexAttribDivisor(index, 1);

      gl.enable(gl.BLEND);
      gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
      this.gl = gl;
      this.sortedAlong = null;
      this.request();
    }

    // Rows right, down, forward of an OpenCV camera on the orbit, and its position.
    frame() {
      const { azimuth, elevation, distance, target } = this.camera;
      const [ca, sa, ce, se] = [Math.cos(azimuth), Math.sin(azimuth), Math.cos(elevation), Math.sin(elevation)];
      const forward = [-ce * ca, -ce * sa, -se];
      return { right: [-sa, ca, 0], down: [se * ca, se * sa, -ce], forward, position: target.map((t, k) => t - distance * forward[k]) };
    }

    // All that show the same camera.
    request() { for (const viewer of this.linked) viewer.schedule(); }

    schedule() {
      if (this.pending) return;
      this.pending = true;
      requestAnimationFrame(() => { this.pending = false; this.draw(); });
    }

    draw() {
      const gl = this.gl;
      if (!gl) return;
      if (this.spinning) this.camera.azimuth += 0.01;
      const density = Math.min(window.devicePixelRatio || 1, 2);
      const width = Math.max(1, Math.round(this.canvas.clientWidth * density));
      const height = Math.max(1, Math.round(this.canvas.clientHeight * density));
      if (this.canvas.width !== width || this.canvas.height !== height) { this.canvas.width = width; this.canvas.height = height; }
      const { right, down, forward, position } = this.frame();
      if (String(forward) !== this.sortedAlong) {
        sortByDepth(this.data.centres, this.data.count, forward, this.order);
        gl.bufferData(gl.ARRAY_BUFFER, this.order, gl.DYNAMIC_DRAW);
        this.sortedAlong = String(forward);
      }
      const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
      const matrix = []; // column-major
      for (let k = 0; k < 3; k++) matrix.push(right[k], down[k], forward[k], 0);
      matrix.push(-dot(right, position), -dot(down, position), -dot(forward, position), 1);
      gl.viewport(0, 0, width, height);
      gl.clearColor(...BACKGROUNDS[this.background], 1);
      gl.clear(gl.COLOR_BUFFER_BIT);
      gl.uniformMatrix4fv(this.uniform.cameraFromWorld, false, matrix);
      gl.uniform2f(this.uniform.viewport, width, height);
      gl.uniform1f(this.uniform.focal, Math.min(width, height) / (2 * Math.tan(FOV_Y / 2)));
      gl.drawArraysInstanced(gl.TRIANGLE_STRIP, 0, 4, this.data.count);
      this.frames++;
      if (this.spinning) this.request();
    }

    listen() {
      const pointers = new Map();
      const canvas = this.canvas;
      canvas.tabIndex = 0;
      canvas.style.touchAction = "none";
      canvas.addEventListener("contextmenu", (event) => event.preventDefault());
      canvas.addEventListener("webglcontextlost", (event) => { event.preventDefault(); this.gl = null; });
      canvas.addEventListener("webglcontextrestored", () => this.setUp(canvas.getContext("webgl2")));
      canvas.addEventListener("pointerdown", (event) => {
        canvas.setPointerCapture(event.pointerId);
        pointers.set(event.pointerId, event);
        for (const viewer of this.linked) viewer.spinning = false;
      });
      for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, (event) => pointers.delete(event.pointerId));
      canvas.addEventListener("pointermove", (event) => {
        const before = pointers.get(event.pointerId);
        if (!before) return;
        const [dx, dy] = [event.clientX - before.clientX, event.clientY - before.clientY];
        if (pointers.size === 2) {
          const other = [...pointers.values()].find((p) => p.pointerId !== event.pointerId);
          const gap = (p) => Math.hypot(p.clientX - other.clientX, p.clientY - other.clientY) || 1;
          this.zoom(gap(before) / gap(event));
          this.pan(dx / 2, dy / 2);
        } else if (event.shiftKey || event.buttons & 6) {
          this.pan(dx, dy);
        } else {
          this.turn(-dx * 0.008, dy * 0.008);
        }
        pointers.set(event.pointerId, event);
      });
      canvas.addEventListener("wheel", (event) => { event.preventDefault(); this.zoom(Math.exp(event.deltaY * 0.001)); }, { passive: false });
      canvas.addEventListener("dblclick", () => this.reset());
      canvas.addEventListener("keydown", (event) => {
        const step = { ArrowLeft: [-0.1, 0], ArrowRight: [0.1, 0], ArrowUp: [0, 0.1], ArrowDown: [0, -0.1] }[event.key];
        if (step) { event.preventDefault(); this.turn(...step); }
        else if (event.key === "b") this.nextBackground();
        else if (event.key === "r") this.reset();
        else if (event.key === "+") this.zoom(0.9);
        else if (event.key === "-") this.zoom(1 / 0.9);
      });
    }

    turn(azimuth, elevation) {
      this.camera.azimuth += azimuth;
      this.camera.elevation = Math.max(-1.57, Math.min(1.57, this.camera.elevation + elevation));
      this.request();
    }

    zoom(factor) {
      this.camera.distance = Math.max(0.2, Math.min(20, this.camera.distance * factor));
      this.request();
    }

    pan(dx, dy) {
      const { right, down } = this.frame();
      const scale = (2 * Math.tan(FOV_Y / 2) * this.camera.distance) / Math.min(this.canvas.clientWidth, this.canvas.clientHeight);
      this.camera.target = this.camera.target.map((t, k) => t - scale * (dx * right[k] + dy * down[k]));
      this.request();
    }

    reset() { Object.assign(this.camera, HOME, { target: [0, 0, 0] }); this.request(); }
    spin() { this.spinning = !this.spinning; this.request(); }
    nextBackground() {
      const next = (this.background + 1) % BACKGROUNDS.length;
      for (const viewer of this.linked) viewer.background = next;
      this.request();
    }
  }

  // Every <figure class="splats"> holds a canvas, the data in <script class="splat-data">, and buttons with data-action.
  function start() {
    return [...document.querySelectorAll("figure.splats")].map((figure) => {
      const viewer = new Viewer(figure.querySelector("canvas"), figure.querySelector("script.splat-data").textContent);
      for (const button of figure.querySelectorAll("button[data-action]")) {
        button.addEventListener("click", () => viewer[button.dataset.action]());
      }
      return viewer;
    });
  }

  // One camera for several, that of the first; or one each again.
  function link(viewers) {
    for (const viewer of viewers) { viewer.camera = viewers[0].camera; viewer.linked = viewers; }
    viewers[0].request();
  }

  function unlink(viewers) {
    for (const viewer of viewers) { viewer.camera = { ...viewer.camera, target: [...viewer.camera.target] }; viewer.linked = [viewer]; }
  }

  return { start, link, unlink, sortByDepth };
})();

const splatViewers = SplatViewer.start();
