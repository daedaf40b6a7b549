use super::action::Action;
use super::args::Args;
use super::state::State;
use super::*;
use crate::build::dockerfile::parse;
use crate::image::manifest::Platform;

fn args(given: &[(&str, &str)]) -> Args {
    let given = given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Args::new(given, &Platform::parse("linux/arm64/v8").unwrap(), None)
}

fn planned(text: &str, target: Option<&str>) -> Result<Plan> {
    plan(parse("Dockerfile", text.as_bytes()).unwrap(), args(&[("given", "g")]), target)
}

/// The stage after all its instructions, and what they ask for.
fn built(text: &str) -> (State, Vec<Action>, Vec<String>) {
    let plan = planned(&format!("FROM scratch\n{text}"), None).unwrap();
    let mut state = State::scratch('\\');
    let (mut actions, mut history) = (Vec::new(), Vec::new());
    for instruction in &plan.stages[0].instructions {
        let (action, text) = state.apply(instruction, &plan.args).unwrap_or_else(|error| panic!("{text}: {error:#}"));
        actions.push(action);
        history.push(text);
    }
    (state, actions, history)
}

#[test]
fn only_needed_stages_are_built() {
    let text = "FROM a AS one\nFROM b\nFROM one AS three\nRUN --mount=from=1,target=/x y\nFROM c AS four\n\
                COPY --from=three x y\nCOPY --from=ONE x y\nCOPY --from=img x y\nFROM d AS five";
    let needed = |target| planned(text, target).unwrap().needed;
    assert_eq!(needed(Some("four")), [true, true, true, true, false]);
    assert_eq!(needed(Some("0")), [true, false, false, false, false]);
    assert_eq!(needed(Some("Three")), [true, true, true, false, false]);
    assert_eq!(needed(None), [false, false, false, false, true]);
    assert_eq!(planned(text, None).unwrap().stages[2].base, Base::Stage(0));
    let error = format!("{:#}", planned(text, Some("six")).unwrap_err());
    assert!(error.contains("--target six") && error.contains("one, three, four, five"), "{error}");
}

#[test]
fn stages_know_only_those_before() {
    for (text, words) in [
        ("FROM a AS x\nCOPY --from=x a b", "Dockerfile:2: from=x"),
        ("FROM a AS x\nCOPY --from=y a b\nFROM c AS y", ""),
        ("FROM a\nCOPY --from=0 a b", "from=0: there are only 0"),
        ("FROM a AS x\nFROM b AS x", "there is a stage \"x\" already"),
        ("FROM $nothing", "its name is empty"),
    ] {
        let result = planned(text, None);
        if words.is_empty() {
            assert!(result.is_ok());
        } else {
            let error = format!("{:#}", result.unwrap_err());
            assert!(error.contains(words) || error.contains("name is empty"), "{text}: {error}");
        }
    }
}

#[test]
fn variables_have_their_scopes() {
    let plan = planned("ARG given=1\nARG v=${given}2\nFROM --platform=$TARGETPLATFORM img:$v$nothing", None).unwrap();
    assert_eq!(plan.stages[0].base, Base::Image("img:g2".into()));
    assert_eq!(plan.stages[0].platform.as_deref(), Some("linux/arm64/v8"));

    let text = "ARG global=x\nFROM scratch\nARG none\nARG global\nARG given=default\nARG TARGETARCH\nARG d=a\\ b\n\
                ENV e=$global-$given-$none-$TARGETARCH-$TARGETOS-$d\nARG e=no\nRUN it";
    let plan = planned(text, None).unwrap();
    let mut state = State::scratch('\\');
    let mut last = None;
    for instruction in &plan.stages[0].instructions {
        last = Some(state.apply(instruction, &plan.args).unwrap());
    }
    assert!(state.config.config.env.contains(&"e=x-g--arm64--a b".to_owned()), "{:?}", state.config.config.env);
    let Some((Action::Run(run), history)) = last else { panic!() };
    let names: Vec<&str> = run.args.iter().map(|it| it.0.as_str()).collect();
    assert_eq!(names, ["TARGETARCH", "d", "given", "global"]);
    assert_eq!(history, "RUN |4 TARGETARCH=arm64 d=a b given=g global=x /bin/sh -c it");
    assert_eq!(plan.args.unused(&["given".to_owned()].into()), Vec::<&str>::new());
    assert_eq!(planned("FROM a", None).unwrap().args.unused(&[].into()), ["given"]);
}

#[test]
fn instructions_change_the_configuration() {
    let (state, actions, history) = built(
        "ENV a=1 b=${a:-none}\nENV a=2 c=$a\nLABEL x=\"$a y\" 'k z'=1\nWORKDIR /w\nWORKDIR $a/../v\nUSER u:g\n\
         CMD go\nENTRYPOINT [\"e\"]\nSHELL [\"/bin/bash\", \"-c\"]\nCMD x $a\nEXPOSE 80 90-92/udp\nVOLUME /v \"/w\"\n\
         HEALTHCHECK --interval=1s CMD [\"t\"]\nSTOPSIGNAL SIGINT\nONBUILD RUN $a\nMAINTAINER me",
    );
    let config = &state.config.config;
    assert_eq!(config.env[1..], ["a=2", "b=none", "c=1"]);
    assert_eq!(config.labels.as_ref().unwrap()["x"], "2 y");
    assert_eq!(config.labels.as_ref().unwrap()["k z"], "1");
    assert_eq!((config.working_dir.as_str(), config.user.as_str()), ("/w/v", "u:g"));
    assert_eq!(actions[4], Action::Workdir("/w/v".into()));
    assert_eq!(config.cmd.as_ref().unwrap()[..], ["/bin/bash", "-c", "x $a"]);
    assert_eq!(config.entrypoint.as_ref().unwrap()[..], ["e"]);
    let ports: Vec<&String> = config.exposed_ports.as_ref().unwrap().keys().collect();
    assert_eq!(ports, ["80/tcp", "90/udp", "91/udp", "92/udp"]);
    assert_eq!(config.rest["Healthcheck"]["Test"][0], "CMD");
    assert_eq!(config.rest["Healthcheck"]["Interval"], 1_000_000_000);
    assert_eq!(config.on_build.as_ref().unwrap()[..], ["RUN $a"]);
    assert_eq!(state.config.author.as_deref(), Some("me"));
    assert_eq!(history[1], "ENV a=2 c=1");
}

#[test]
fn an_entrypoint_forgets_the_bases_command() {
    let mut config = State::scratch('\\').config;
    config.config.cmd = Some(vec!["base".into()]);
    let plan = planned("FROM scratch\nENTRYPOINT [\"e\"]", None).unwrap();
    let mut state = State::new(config.clone(), '\\');
    state.apply(&plan.stages[0].instructions[0], &plan.args).unwrap();
    assert_eq!(state.config.config.cmd, None);
    let plan = planned("FROM scratch\nCMD [\"own\"]\nENTRYPOINT [\"e\"]", None).unwrap();
    let mut state = State::new(config, '\\');
    plan.stages[0].instructions.iter().for_each(|it| drop(state.apply(it, &plan.args).unwrap()));
    assert_eq!(state.config.config.cmd.unwrap()[..], ["own"]);
}

#[test]
fn files_have_their_targets() {
    let (_, actions, _) = built(
        "WORKDIR /w\nCOPY a b\nCOPY a .\nCOPY a ../x/\nCOPY a /\nENV t=/q\nCOPY --chown=$t a$t $t/\n\
         COPY <<E <<'F' /d/\n$t\nE\n$t\nF\n",
    );
    let targets: Vec<&str> = actions
        .iter()
        .filter_map(|it| if let Action::Copy(it) = it { Some(it.target.as_str()) } else { None })
        .collect();
    assert_eq!(targets, ["/w/b", "/w/", "/x/", "/", "/q/", "/d/"]);
    let Action::Copy(copy) = &actions[6] else { panic!() };
    assert_eq!((copy.copy.sources[0].as_str(), copy.copy.chown.as_deref()), ("a/q", Some("/q")));
    let Action::Copy(copy) = actions.last().unwrap() else { panic!() };
    assert_eq!((copy.documents[0].text.as_str(), copy.documents[1].text.as_str()), ("/q\n", "$t\n"));
}

#[test]
fn commands_have_their_documents() {
    let run = |text: &str| match built(text).1.pop() {
        Some(Action::Run(run)) => run,
        other => panic!("{other:?}"),
    };
    assert_eq!(run("RUN <<E\na\nb\nE\n").words, ["/bin/sh", "-c", "a\nb\n"]);
    assert_eq!(run("RUN cat <<E\na\nE\n").words[2], "cat <<E\na\nE");
    let script = run("RUN <<E\n#!/bin/x\na\nE\n");
    assert_eq!((script.words[0].as_str(), script.script.unwrap().1.as_str()), ("/dev/pipes/E", "#!/bin/x\na\n"));
    let mounts = run("ENV d=/c\nWORKDIR /w\nRUN --mount=type=cache,target=$d --mount=type=tmpfs,target=x it").mounts;
    assert_eq!((mounts[0].target.as_deref(), mounts[1].target.as_deref()), (Some("/c"), Some("/w/x")));
}

#[test]
fn what_is_wrong_is_told() {
    for (text, words) in [
        ("USER $nothing", "USER"),
        ("WORKDIR $nothing", "WORKDIR"),
        ("EXPOSE x", "EXPOSE"),
        ("EXPOSE 90-80", "EXPOSE"),
        ("EXPOSE 80/x", "EXPOSE"),
        ("STOPSIGNAL SIGNONE", "STOPSIGNAL"),
        ("COPY $nothing /x", "COPY: a source is empty"),
        ("COPY a $nothing", "COPY: the destination is empty"),
        ("ENV $nothing=1", "ENV"),
        ("ENV a=\"${b:?it is missing}\"", "it is missing"),
        ("RUN --mount=type=cache,target=$nothing x", "RUN"),
    ] {
        let plan = planned(&format!("FROM scratch\n{text}"), None).unwrap();
        let error = State::scratch('\\').apply(&plan.stages[0].instructions[0], &plan.args).unwrap_err();
        assert!(format!("{error:#}").contains(words), "{text}: {error:#}");
    }
}

#[test]
fn keys_tell_fields_apart() {
    let key = |fields: &[&str]| {
        let mut key = key::Key::new("run 1", None);
        for it in fields {
            key.add(it.as_bytes()).debug(&1);
        }
        key.finish()
    };
    assert_eq!(key(&["a", "b"]), key(&["a", "b"]));
    assert_ne!(key(&["ab"]), key(&["a", "b"]));
    assert_ne!(key(&["a", ""]), key(&["a"]));
}
