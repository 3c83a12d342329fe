import { render } from 'preact';
import { App } from './app.tsx';
import { startKeyboard } from './keyboard.ts';
import { startLive } from './live.ts';
import { applyTheme, theme } from './theme.ts';
import './style.css';

const root = document.getElementById('app');
if (root === null) throw new Error('index.html has no #app');
applyTheme(theme.value);
startLive();
startKeyboard();
render(<App />, root);
