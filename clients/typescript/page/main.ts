// Holds a token, narrows it, and asks a service behind a gateway with it.

import { Holder, problemIn } from "postern/browser";

const field = (id: string) => document.getElementById(id) as HTMLInputElement;
const said = document.getElementById("said")!;

async function say(action: () => Promise<string>): Promise<void> {
  try {
    said.textContent = await action();
  } catch (error) {
    said.textContent = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  }
}

document.getElementById("narrow")!.addEventListener("click", () =>
  say(async () => {
    const holder = await Holder.ofGateway(field("gateway").value);
    const path = field("path").value;
    const narrowed = holder.attenuate(field("token").value, { path: [path, `${path}/**`], expires: "10m" });
    field("token").value = narrowed;
    return holder.inspect(narrowed).map(({ text }) => text.trim()).join("\n\n");
  }),
);

document.getElementById("ask")!.addEventListener("click", () =>
  say(async () => {
    const holder = await Holder.ofGateway(field("gateway").value);
    const resource = `${field("gateway").value}/${field("resource").value}`;
    const ask = holder.withCapability({ token: field("token").value, resource });
    const response = await ask(`${resource}${field("asked").value}`);
    const problem = await problemIn(response.clone());
    return problem ? `${response.status} ${problem.type}\n${problem.detail}` : `${response.status}\n${await response.text()}`;
  }),
);

document.documentElement.dataset["ready"] = "yes";
