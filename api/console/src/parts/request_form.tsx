import { useState } from 'preact/hooks';
import type { JSX } from 'preact';
import { ApiError } from '../api_client.ts';

/** One text field of a form. */
export interface Field {
  readonly name: string;
  readonly label: string;
  readonly placeholder: string;
  readonly value?: string;
}

/** Text fields and a button; what the server refuses stands below, and what was typed stays. */
export function RequestForm(props: {
  readonly title: string;
  readonly fields: readonly Field[];
  readonly button: string;
  readonly send: (values: Readonly<Record<string, string>>) => Promise<void>;
}): JSX.Element {
  const initial = Object.fromEntries(props.fields.map((f) => [f.name, f.value ?? '']));
  const [values, setValues] = useState<Readonly<Record<string, string>>>(initial);
  const [problem, setProblem] = useState('');
  const [isSending, setIsSending] = useState(false);
  const send = async (): Promise<void> => {
    setIsSending(true);
    try {
      await props.send(values);
      setValues(initial);
      setProblem('');
    } catch (error) {
      setProblem(error instanceof ApiError ? error.message : String(error));
    } finally {
      setIsSending(false);
    }
  };
  return (
    <form
      class="filters"
      aria-label={props.title}
      onSubmit={(event) => {
        event.preventDefault();
        void send();
      }}
    >
      {props.fields.map((field) => (
        <label key={field.name}>
          <span>{field.label}</span>
          <input
            type="text"
            required
            autocomplete="off"
            spellcheck={false}
            maxLength={512}
            placeholder={field.placeholder}
            value={values[field.name] ?? ''}
            onInput={(event) => setValues({ ...values, [field.name]: event.currentTarget.value })}
          />
        </label>
      ))}
      <button type="submit" disabled={isSending}>
        {props.button}
      </button>
      {problem === '' ? null : (
        <p class="note" role="alert">
          {problem}
        </p>
      )}
    </form>
  );
}
